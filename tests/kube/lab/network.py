"""Network namespaces for a cluster: one for the control plane, one for each machine, on a bridge that leads nowhere.

No packet can leave the computer: there is no link to it. A small forwarder (`forward.py`) makes the API server
reachable on loopback.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NET = "10.200.0"
PLANE_ADDRESS = f"{NET}.1"


@dataclass(frozen=True)
class Machine:
    """A node of the cluster to be."""

    name: str
    number: int
    namespace: str

    @property
    def address(self) -> str:
        """Return its address on the bridge."""
        return f"{NET}.{10 + self.number}"

    @property
    def pods(self) -> str:
        """Return the range of its pods' addresses."""
        return f"10.244.{self.number}.0/24"


def inside(namespace: str) -> list[str]:
    """Return the prefix that runs a command in a namespace.

    Not `ip netns exec`, which mounts a fresh /sys and so hides the cgroups from a kubelet.
    """
    return ["nsenter", f"--net=/run/netns/{namespace}"]


def make(prefix: str, nodes: int) -> tuple[str, list[Machine]]:
    """Make the namespaces; return the control plane's and the machines."""
    plane = f"{prefix}-plane"
    machines = [Machine(f"node{at}", at, f"{prefix}-node{at}") for at in range(1, nodes + 1)]
    for name in (plane, *(machine.namespace for machine in machines)):
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
    _ip("-n", plane, "link", "add", "bridge0", "type", "bridge")
    _ip("-n", plane, "addr", "add", f"{PLANE_ADDRESS}/24", "dev", "bridge0")
    _ip("-n", plane, "link", "set", "bridge0", "up")
    for machine in machines:
        wire = f"wire{machine.number}"
        peer = ("peer", "name", "eth0", "netns", machine.namespace)
        _ip("-n", plane, "link", "add", wire, "type", "veth", *peer)
        _ip("-n", plane, "link", "set", wire, "master", "bridge0", "up")
        _ip("-n", machine.namespace, "addr", "add", f"{machine.address}/24", "dev", "eth0")
        _ip("-n", machine.namespace, "link", "set", "eth0", "up")
        # Without a default route a packet to a service's address is refused before it is translated.
        _ip("-n", machine.namespace, "route", "add", "default", "via", PLANE_ADDRESS)
        _ip("-n", plane, "route", "add", machine.pods, "via", machine.address)
        for other in machines:
            if other is not machine:
                _ip("-n", machine.namespace, "route", "add", other.pods, "via", other.address)
        _run([*inside(machine.namespace), "sysctl", "-qw", "net.ipv4.ip_forward=1"])
    return plane, machines


def remove(prefix: str) -> None:
    """End what still runs in the namespaces of a cluster, and remove them. Again is harmless."""
    for path in Path("/run/netns").glob(f"{prefix}-*"):
        found = subprocess.run(["ip", "netns", "pids", path.name], capture_output=True, text=True, check=False)
        for pid in found.stdout.split():
            subprocess.run(["kill", "-9", pid], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "delete", path.name], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
