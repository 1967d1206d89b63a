"""A local network of machines that share nothing but a switch: network namespaces on a bridge, made for one test.

Needs root. Nothing of it touches the machine's own network: the bridge lies in a namespace too, and whoever looks at a
node from outside does so from a thread that lives there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tests.cluster.harness import QUICK, changed_environment

from coterie_client.errors import ClientError
from coterie_client.local import admin
from coterie_client.local.place import NodePlace
from coterie_client.local.process import last_words, node_program, start_node
from coterie_protocol.admin import Readiness, RingReport

R = TypeVar("R")
ETHERNET = "eth0"
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)


def why_not() -> str:
    """Return why no such network can be made here; empty when it can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    return "" if shutil.which("ip") else "network namespaces need the program ip (iproute2)"


def ipv6(address: str) -> str:
    """Return the IPv6 address of the machine that has this IPv4 one."""
    return f"fd74::{address.rpartition('.')[2]}"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20)


class Machine:
    """A machine of the network, and the node that runs on it."""

    def __init__(self, lan: Lan, number: int, directory: Path) -> None:
        self.namespace = f"{lan.name}-{number}"
        self._lan = lan
        self._cable = f"{lan.name}p{number}"
        self.name = f"node-{number}"
        at = directory / self.name
        self.place = NodePlace(self.name, at, at.with_suffix(".log"), at.with_suffix(".lock"), 7400)
        self.address = self.address6 = ""
        self._process: subprocess.Popen[bytes] | None = None

    def build(self) -> None:
        """Make the namespace. It has no network interface but loopback yet."""
        ip("netns", "add", self.namespace)
        ip("-n", self.namespace, "link", "set", "lo", "up")

    def plug_in(self, address: str) -> None:
        """Lay a cable to the switch, and take an address."""
        ip(
            "link",
            "add",
            self._cable,
            "netns",
            self._lan.name,
            "type",
            "veth",
            "peer",
            ETHERNET,
            "netns",
            self.namespace,
        )
        ip("-n", self._lan.name, "link", "set", self._cable, "master", "bridge", "up")
        ip("-n", self.namespace, "link", "set", ETHERNET, "up")
        self.take(address)

    def take(self, address: str) -> None:
        """Have this address and the IPv6 one with the same number, and no other."""
        ip("-n", self.namespace, "-4", "address", "flush", "dev", ETHERNET)
        ip("-n", self.namespace, "-6", "address", "flush", "dev", ETHERNET, "scope", "global")
        ip("-n", self.namespace, "address", "add", f"{address}/24", "dev", ETHERNET)
        self.address = address
        self.address6 = ipv6(address)
        ip("-n", self.namespace, "-6", "address", "add", f"{self.address6}/64", "dev", ETHERNET, "nodad")
        self._lan.forget()

    def start(self, secret: Path, *arguments: str) -> None:
        """Start the machine's node: told nothing of the others but the secret."""
        self.run("--discovery", "multicast", "--secret-file", str(secret), *arguments)

    def run(self, *arguments: str, listen: str = "0.0.0.0") -> None:  # of a namespace
        """Start the machine's node, which listens on all of its addresses."""
        command = ["ip", "netns", "exec", self.namespace, sys.executable, *node_program(), "run"]
        command += ["--data-dir", str(self.place.data)]
        for port, number in {"client": 7400, "peer": 7401, "admin": 7402}.items():
            command += [f"--listen-{port}", f"{listen}:{number}"]
        with changed_environment(QUICK):
            self._process = start_node(self.place, [*command, *arguments], detach=False)

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(5.0)
            self._process = None

    def wait(self, seconds: float) -> int:
        """Wait until the node has ended by itself; return the exit code."""
        assert self._process is not None
        code = self._process.wait(seconds)
        self._process = None
        return code

    def terminate(self) -> int:
        """SIGTERM; return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(12.0)
        self._process = None
        return code

    async def readiness(self, what: Callable[[Readiness], bool], seconds: float) -> Readiness:
        """Wait until what the node says of its readiness fulfils something; return it."""
        return await self._until(admin.readiness, what, seconds)

    async def ring(self, what: Callable[[RingReport], bool], seconds: float) -> RingReport:
        """Wait until what the node says of its ring fulfils something; return it."""
        return await self._until(admin.ring_report, what, seconds)

    async def _until(self, ask: Callable[[str], R], what: Callable[[R], bool], seconds: float) -> R:
        deadline = time.monotonic() + seconds
        seen: Any = None
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, f"{self.name} has stopped: {last_words(self.place.log)}"
            try:
                seen = found = await self._lan.look(ask, f"http://{self.address}:7402")
            except ClientError as error:
                seen = error
            else:
                if what(found):
                    return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"{self.name}, not within {seconds} s; last: {seen}; log: {self.log()[-2000:]}")

    async def logs(self, what: str, seconds: float) -> None:
        """Wait until the node's log holds something."""
        deadline = time.monotonic() + seconds
        while what not in self.log():
            assert time.monotonic() < deadline, f"{self.name} has not logged {what!r}: {self.log()[-2000:]}"
            await asyncio.sleep(0.05)

    def log(self) -> str:
        return self.place.log.read_text(errors="replace") if self.place.log.exists() else ""


class Lan:
    """The switch, and its machines. `close` takes everything down, also what was only half made."""

    def __init__(self, directory: Path) -> None:
        self.name = f"ct{os.getpid():x}n{next(_numbers)}"
        self._directory = directory
        self.machines: list[Machine] = []
        self._outside = ThreadPoolExecutor(1, initializer=_enter, initargs=(self.name,))

    def build(self, machines: int) -> None:
        """Make the switch and machines 10.74.0.1, 10.74.0.2, …"""
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "link", "add", "bridge", "type", "bridge", "forward_delay", "0")
        ip("-n", self.name, "link", "set", "bridge", "up")
        ip("-n", self.name, "address", "add", "10.74.0.254/24", "dev", "bridge")
        ip("-n", self.name, "-6", "address", "add", f"{ipv6('10.74.0.254')}/64", "dev", "bridge", "nodad")
        for number in range(1, machines + 1):
            machine = Machine(self, number, self._directory)
            self.machines.append(machine)
            machine.build()
            machine.plug_in(f"10.74.0.{number}")

    def forget(self) -> None:
        """Have nobody believe that an address is still where it was, as if all had been switched off."""
        for namespace in (self.name, *(machine.namespace for machine in self.machines)):
            ip("-n", namespace, "neighbour", "flush", "all")

    async def look(self, ask: Callable[[str], R], url: str) -> R:
        """Ask a node for something, from the switch."""
        return await asyncio.get_running_loop().run_in_executor(self._outside, ask, url)

    def close(self) -> None:
        """Stop the nodes and remove the network."""
        try:
            for machine in self.machines:
                machine.kill()
            self._outside.shutdown()
        finally:
            for namespace in (*(machine.namespace for machine in self.machines), self.name):
                with contextlib.suppress(subprocess.CalledProcessError):  # it was never made
                    ip("netns", "delete", namespace)


def _enter(namespace: str) -> None:
    """Put the calling thread into a network namespace."""
    with open(f"/run/netns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
