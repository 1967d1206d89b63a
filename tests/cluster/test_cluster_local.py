"""`coterie up`, `down` and `ring` as people use them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.ports import free_port
from tests.cluster.people import Shell, coterie

from coterie_client.local.place import RingFile, RingPlace

SECOND_START = 3.0
"""Seconds in which a ring that exists must be up again."""


class Terminal:
    """A directory for a ring, and `coterie up` in it."""

    def __init__(self, directory: Path, nodes: int) -> None:
        self.directory = directory / "ring"
        self.port = free_port(nodes)
        self.nodes = nodes
        self.shell = Shell(directory / "home", [f"ws://127.0.0.1:{self.port + 10 * i}" for i in range(nodes)])
        self._up: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str, code: int = 0) -> str:
        return self.shell.run(*arguments, "--dir", str(self.directory), code=code)

    def up(self) -> subprocess.Popen[bytes]:
        """Start `coterie up` in the foreground and wait until it says what to type next."""
        self._up = self.shell.begin(
            "up", "--nodes", str(self.nodes), "--port", str(self.port), "--dir", str(self.directory)
        )
        assert self._up.stdout is not None
        for line in self._up.stdout:
            if b"What the ring looks like" in line:
                return self._up
        assert self._up.stderr is not None
        raise AssertionError(f"coterie up has ended: {self._up.stderr.read().decode()}")

    def stop(self, number: int, seconds: float = 15.0) -> int:
        """Send a signal to the `coterie up` in the foreground; return its exit code."""
        assert self._up is not None
        self._up.send_signal(number)
        self._up.communicate(timeout=seconds)
        return self._up.returncode

    def pids(self) -> list[int]:
        """Return the pids of the nodes that live."""
        ring = RingFile(self.nodes, 3, self.port)
        return [pid for node in RingPlace(self.directory).nodes(ring) if (pid := node.pid()) is not None]

    def close(self) -> None:
        if self._up is not None:
            self.stop(signal.SIGKILL)
        subprocess.run(coterie("down", "--dir", str(self.directory)), capture_output=True, check=False, timeout=30)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path, 5)
    yield made
    made.close()


def wait_until_gone(terminal: Terminal, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while terminal.pids():
        assert time.monotonic() < deadline, f"still running: {terminal.pids()}"
        time.sleep(0.02)


def test_up_ctrl_c_and_up_again(terminal: Terminal) -> None:
    terminal.up()
    assert len(terminal.pids()) == 5
    terminal.shell.run("register", "alice")
    terminal.shell.run("send", "alice", "a note to myself")
    members = [json.loads(line) for line in terminal.run("ring", "--json").splitlines()]
    assert sorted(member["name"] for member in members) == [f"node-{i}" for i in range(1, 6)]
    assert {member["state"] for member in members} == {"ready"}
    assert sum(member["slots"]["users"] for member in members) == 1024
    assert sum(member["arc_share"] for member in members) == pytest.approx(1.0)
    assert "5 of 5 ready" in terminal.run("ring")

    assert terminal.stop(signal.SIGINT) == 130
    assert terminal.pids() == []

    took = []
    for _ in range(3):  # the quickest: other work on the machine only ever makes it slower
        begin = time.monotonic()
        terminal.up()
        took.append(time.monotonic() - begin)
        if took[-1] < SECOND_START:
            break
        assert terminal.stop(signal.SIGINT) == 130
    else:
        raise AssertionError(f"never up within {SECOND_START} s: {took}")
    assert json.loads(terminal.shell.run("receive", "--json"))["text"] == "a note to myself"
    assert terminal.stop(signal.SIGTERM) == 0
    assert terminal.pids() == []


def test_an_up_that_is_killed_leaves_no_process(terminal: Terminal) -> None:
    terminal.up()
    assert len(terminal.pids()) == 5
    terminal.stop(signal.SIGKILL)
    wait_until_gone(terminal, 12)


def test_up_twice_says_so_and_the_ring_goes_on(terminal: Terminal) -> None:
    terminal.up()
    error = terminal.run("up", code=1)
    assert f"a ring is running in {terminal.directory} already" in error
    assert "Ctrl-C" in error
    assert len(terminal.pids()) == 5


def test_a_detached_ring(terminal: Terminal) -> None:
    options = ("--detach", "--nodes", "5", "--port", str(terminal.port))
    assert "Stop it with" in terminal.run("up", *options)
    terminal.shell.run("register", "alice")  # it returned: accounts can be made
    pids = terminal.pids()
    assert len(pids) == 5
    assert "is running already: 5 nodes" in terminal.run("up", "--detach")

    os.kill(pids[2], signal.SIGKILL)
    deadline = time.monotonic() + 5
    while len(terminal.pids()) == 5:
        assert time.monotonic() < deadline
    assert "Starting 1 nodes" not in terminal.run("up")
    assert len(terminal.pids()) == 5
    assert set(pids) - set(terminal.pids()) == {pids[2]}

    assert "the data stay" in terminal.run("down")
    assert terminal.pids() == []
    assert "No node was running" in terminal.run("down")
    assert "--yes" in terminal.run("down", "--purge", code=2)
    assert "deleted" in terminal.run("down", "--purge", "--yes")
    assert not terminal.directory.exists()
    assert "There is no ring" in terminal.run("down")


def test_a_first_node_that_lost_its_data_joins_and_does_not_found_again(terminal: Terminal) -> None:
    options = ("--detach", "--nodes", "5", "--port", str(terminal.port))
    terminal.run("up", *options)
    terminal.shell.run("register", "alice")
    terminal.run("down")
    ring_uid = json.loads((terminal.directory / "ring.json").read_text())["ring_uid"]
    for path in sorted((terminal.directory / "node-1").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    terminal.run("up", "--detach")
    assert json.loads((terminal.directory / "ring.json").read_text())["ring_uid"] == ring_uid
    assert json.loads(terminal.shell.run("whoami", "--json"))["ring_uid"] == ring_uid
    terminal.shell.run("send", "alice", "still here")


def test_a_port_in_use_is_one_line(terminal: Terminal) -> None:
    with socket.create_server(("127.0.0.1", terminal.port + 11)):
        error = terminal.run("up", "--nodes", "3", "--port", str(terminal.port), code=1)
    assert f"port {terminal.port + 11} on 127.0.0.1, which node-2 needs, is in use" in error
    assert "--port" in error


@pytest.mark.parametrize("nodes", [1, 2])
def test_small_rings_keep_one_copy(tmp_path: Path, nodes: int) -> None:
    terminal = Terminal(tmp_path, nodes)
    try:
        terminal.run("up", "--detach", "--nodes", str(nodes), "--port", str(terminal.port))
        terminal.shell.run("register", "alice")
        terminal.shell.run("send", "alice", "to myself")
        assert "to myself" in terminal.shell.run("receive")
    finally:
        terminal.close()
