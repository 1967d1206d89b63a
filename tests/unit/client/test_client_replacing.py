"""Files that are replaced whole: a writer that was killed leaves nothing for good, and a living one is left alone."""

from __future__ import annotations

import base64
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.client.gateway import RING_UID

from coterie_client.known import KnownServers
from coterie_client.session import Reserved, Session, load_session, remember_taken, save_session
from coterie_client.settings import Settings

TOKEN = base64.b64encode(bytes(32)).decode()
SESSION = Session("alice", RING_UID, 1, TOKEN)
FILES = {"session": "session.json", "taken": "taken.json", "servers": "servers.json"}
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.client.test_client_replacing import write
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write(sys.argv[1], Path(sys.argv[2]))
"""
LIVING = """
import sys
from pathlib import Path
from coterie_client.session import Reserved
from tests.unit.client.test_client_replacing import SESSION
with Reserved(Path(sys.argv[1]) / "session.json") as place:
    print(flush=True)
    sys.stdin.readline()
    place.keep(SESSION)
"""


def write(which: str, home: Path) -> None:
    """Write one of the files of a home."""
    match which:
        case "session":
            save_session(home / "session.json", SESSION)
        case "taken":
            remember_taken(home / "session.json", SESSION, 1)
        case "servers":
            KnownServers(Settings(home)).remember(RING_UID, ["ws://127.0.0.1:7500"])


def names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir())


def aged(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.parametrize("which", FILES)
def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path, which: str) -> None:
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", KILLED, which, str(tmp_path)], check=False)
        assert killed.returncode == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.startswith(".")
    write(which, tmp_path)
    assert names(tmp_path) == [FILES[which]]
    assert stat.S_IMODE((tmp_path / FILES[which]).stat().st_mode) == 0o600


def test_the_file_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LIVING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as living:
        assert living.stdin is not None
        assert living.stdout is not None
        living.stdout.readline()
        save_session(tmp_path / "session.json", Session("bob", RING_UID, 1, TOKEN))
        assert len(names(tmp_path)) == 2
        living.stdin.write(b"\n")
        living.stdin.close()
        assert living.wait(20) == 0
    assert names(tmp_path) == ["session.json"]
    assert load_session(tmp_path / "session.json") == SESSION


def test_two_writers_of_one_process_are_both_alive(tmp_path: Path) -> None:
    with Reserved(tmp_path / "session.json") as one, Reserved(tmp_path / "session.json") as other:
        one.keep(SESSION)
        other.keep(Session("bob", RING_UID, 1, TOKEN))
    assert load_session(tmp_path / "session.json").name == "bob"


def test_what_the_version_before_left_goes_when_it_is_surely_left(tmp_path: Path) -> None:
    """That one locks nothing: its file is young while it is at work."""
    left, at_work = tmp_path / ".session-aaaaaaaa", tmp_path / ".session-bbbbbbbb"
    for path in (left, at_work):
        path.write_bytes(b"")
    aged(left, 2 * 86_400)
    write("session", tmp_path)
    assert names(tmp_path) == [at_work.name, "session.json"]


@pytest.mark.parametrize("prefix", [".session.json-", ".session-"])
def test_only_leftovers_are_removed_and_no_link_is_followed(tmp_path: Path, prefix: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    aged(precious, 2 * 86_400)
    (home / f"{prefix}aaaaaaaa").symlink_to(precious)
    (home / f"{prefix}bbbbbbbb").mkdir()
    os.mkfifo(home / f"{prefix}cccccccc")
    (home / f"{prefix}notes of mine").write_bytes(b"")
    for path in home.iterdir():
        if not path.is_symlink():
            aged(path, 2 * 86_400)
    before = names(home)
    write("session", home)
    assert names(home) == sorted([*before, "session.json"])
    assert precious.read_bytes() == b"mine"
