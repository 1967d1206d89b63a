"""A local ring's directory: locks that tell who lives, ring.json, and what may be asked of a ring that exists."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect as mi
from tests.values import outside

from coterie_client.errors import ClientError, UsageError
from coterie_client.local.down import _stop_worker
from coterie_client.local.place import RingFile, RingPlace, take_lock, write_pid
from coterie_client.local.process import last_words, stop_nodes
from coterie_client.local.up import _settle

HOLD = """
import sys
from coterie_client.local.place import take_lock, write_pid
import os
write_pid(take_lock(__import__("pathlib").Path(sys.argv[1])), os.getpid())
print("held", flush=True)
sys.stdin.read()
"""


def test_whoever_holds_the_lock_lives_and_is_named(tmp_path: Path) -> None:
    place = RingPlace(tmp_path)
    place.make()
    node = place.nodes(RingFile(1, 1, 7400))[0]
    assert node.pid() is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(node.lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert node.pid() == holder.pid
        assert take_lock(node.lock) is None
        holder.kill()
        holder.wait()
    assert node.pid() is None  # though its pid still stands in the file
    assert node.lock.read_text().strip() == str(holder.pid)


def test_a_lock_without_a_pid_yet_is_held_all_the_same(tmp_path: Path) -> None:
    node = RingPlace(tmp_path).nodes(RingFile(1, 1, 7400))[0]
    descriptor = take_lock(node.lock)
    assert descriptor is not None
    assert node.pid() == 0
    write_pid(descriptor, 4711)
    assert node.pid() == 4711
    os.close(descriptor)


def test_only_one_works_in_a_directory(tmp_path: Path) -> None:
    place = RingPlace(tmp_path)
    place.make()
    with place.working():
        assert place.worker() == os.getpid()
        already = rf"running in {tmp_path} already \(coterie up, process {os.getpid()}\)"
        with pytest.raises(ClientError, match=already), RingPlace(tmp_path).working():
            pass
    assert place.worker() is None


def test_the_token_is_private_and_stays(tmp_path: Path) -> None:
    place = RingPlace(tmp_path / "new" / "ring")
    place.make()
    token = place.token_file.read_text()
    assert len(token.strip()) >= 32
    assert place.token_file.stat().st_mode & 0o777 == 0o600
    place.make()
    assert place.token_file.read_text() == token


def test_ring_json_goes_there_and_back(tmp_path: Path) -> None:
    place = RingPlace(tmp_path)
    assert place.load() is None
    place.save(RingFile(5, 3, 7400, "ab" * 16))
    assert place.load() == RingFile(5, 3, 7400, "ab" * 16)
    assert [node.peer_port for node in place.nodes(RingFile(3, 3, 7400))] == [7401, 7411, 7421]
    (tmp_path / "ring.json").write_text("{")
    with pytest.raises(ClientError, match=r"cannot read .*ring\.json"):
        place.load()


def test_every_field_of_ring_json_out_of_bounds_is_a_file_to_mend(tmp_path: Path) -> None:
    for _, value in outside(mi.type_info(RingFile), "RingFile"):
        (tmp_path / "ring.json").write_bytes(msgspec.json.encode(value))
        with pytest.raises(ClientError, match="mend it, or use another --dir"):
            RingPlace(tmp_path).load()


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClientError, match=r"cannot use .*file/ring for a ring: .*--dir"):
        RingPlace(tmp_path / "file" / "ring").make()


def test_purging_deletes_the_ring_and_nothing_else(tmp_path: Path) -> None:
    place = RingPlace(tmp_path)
    place.make()
    ring = RingFile(2, 1, 7400)
    place.save(ring)
    for node in place.nodes(ring):
        (node.data / "deep").mkdir(parents=True)
        node.log.write_text("line")
    (tmp_path / "mine.txt").write_text("kept")
    place.purge(ring)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    assert last_words(tmp_path / "none.log") == ""
    (tmp_path / "a.log").write_text("one\n" * 5000 + "the disk is full\n\n")
    assert last_words(tmp_path / "a.log") == "the disk is full"


def test_settings_default_and_are_remembered() -> None:
    assert _settle(None, None, None, None) == RingFile(5, 3, 7400)
    assert _settle(None, 2, None, None) == RingFile(2, 1, 7400)
    old = RingFile(3, 3, 8000, "aa")
    assert _settle(old, None, None, None) == old
    assert _settle(old, 4, None, 9000) == RingFile(4, 3, 9000, "aa")


@pytest.mark.parametrize(
    ("old", "nodes", "factor", "port", "why"),
    [
        (RingFile(3, 3, 7400, "aa"), None, 1, None, "founded with the replication factor 3"),
        (RingFile(3, 3, 7400, "aa"), 2, None, None, "has 3 nodes"),
        (None, 2, 3, None, "2 nodes cannot keep 3 copies"),
        (None, -1, None, None, "cannot keep"),
        (None, 5, None, 65530, "leaves no room"),
        (None, 5, None, -3, "leaves no room"),
    ],
)
def test_senseless_settings_are_refused(
    old: RingFile | None, nodes: int | None, factor: int | None, port: int | None, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        _settle(old, nodes, factor, port)


@pytest.mark.parametrize("written", [b"", b"0\n", b"-1\n", b"4294967296\n", b"9" * 32, b"\xff\xfe"])
def test_what_is_no_process_of_ours_is_never_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bytes
) -> None:
    """os.kill(0) means the whole process group of who runs `coterie down`, os.kill(-1) everything."""
    signalled: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, _: signalled.append(pid))
    for module, name in (("down", "STOP_SECONDS"), ("process", "KILL_SECONDS")):
        monkeypatch.setattr(f"coterie_client.local.{module}.{name}", -5.0)
    place = RingPlace(tmp_path)
    place.make()
    node = place.nodes(RingFile(1, 1, 7400))[0]
    for lock in (tmp_path / "up.lock", node.lock):
        descriptor = take_lock(lock)
        assert descriptor is not None
        os.pwrite(descriptor, written, 0)
    assert place.worker() == node.pid() == 0
    _stop_worker(place)
    with pytest.raises(ClientError, match=r"node-1 does not end"):
        stop_nodes([node], hurry=lambda: True)
    assert signalled == []


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("ring.json", "node-1.log"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(ClientError, match=r"cannot read .*ring\.json.*not a file"):
        RingPlace(tmp_path).load()
    assert last_words(tmp_path / "node-1.log") == ""
    (tmp_path / "ring.json").unlink()
    with (tmp_path / "ring.json").open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(ClientError, match=r"cannot read .*ring\.json.*bytes"):
        RingPlace(tmp_path).load()
