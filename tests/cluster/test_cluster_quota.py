"""A user's archive is full: at the terminal that is one line, and mail goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cluster.conftest import MakeRing
from tests.cluster.harness import Shell

FULL = "your archive on the ring is full"


def talk(shell: Shell, *arguments: str) -> tuple[str, str]:
    """Run a command that must succeed; return what it printed, and what it complained of."""
    with shell.begin(*arguments) as process:
        out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error.decode()
    return out.decode(), error.decode()


@pytest.mark.timeout(120)
async def test_a_full_archive_is_one_line_and_blocks_no_mail(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(3, COTERIE_NODE_ARCHIVE_RECORDS="1")
    ring.start()
    await ring.ready()
    alice, bob = Shell(tmp_path / "alice", ring.servers), Shell(tmp_path / "bob", ring.servers)
    alice.run("register", "alice")
    bob.run("register", "bob")
    assert FULL not in talk(alice, "send", "bob", "kept by both")[1]
    assert talk(bob, "receive")[0].count("kept by both") == 1
    for number in range(3):
        _, complaint = talk(alice, "send", "bob", f"beyond the quota {number}")
        assert complaint.count("\n") == complaint.count(FULL) == 1
    shown, complaint = talk(bob, "receive")
    assert [f"beyond the quota {number}" in shown for number in range(3)] == [True] * 3
    assert complaint.count("\n") == complaint.count(FULL) == 1
    assert talk(bob, "receive") == ("", "")
    talk(alice, "receive")
    history = [json.loads(line) for line in talk(alice, "history", "bob", "--json")[0].splitlines()]
    assert [line["state"] for line in history] == ["delivered"] * 4
    # Another device has what the archive took; the rest stays on the devices that saw it.
    other = Shell(tmp_path / "bob's other device", ring.servers)
    other.run("login", "bob")
    assert "kept by both" in talk(other, "history", "alice")[0] + talk(other, "receive")[0]
    assert "beyond" not in talk(other, "history", "alice")[0]
