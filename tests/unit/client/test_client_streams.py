"""Nothing counts as shown that was not written, whatever standard output is: real descriptors, real processes."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.client.conftest import Coterie, environment, said
from tests.unit.client.gateway import Server, World

from coterie_client.client import Client
from coterie_client.settings import Settings
from coterie_client.streams import Screen
from coterie_client.terminal import Shown

COUNT = 200


async def waiting(alice: Settings, length: int, count: int = COUNT) -> None:
    async with Client.open(alice) as client:
        tasks = [client.sender.submit("bob", f"{n:04d} {'x' * length}")[1] for n in range(count)]
        await asyncio.gather(*tasks)
        await client.archiver.flush(20)


async def receive(server: Server, tmp_path: Path, stdout: int, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "coterie_client", "receive", "--json", *arguments,
        env=environment(tmp_path / "bob", server.url, PYTHONUNBUFFERED="1"),
        stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(stdout)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, said(err)


def numbers(data: bytes | str) -> list[int]:
    """Return the numbers of the messages whose lines are whole."""
    text = data.decode(errors="replace") if isinstance(data, bytes) else data
    return [int(json.loads(line)["text"][:4]) for line in text.split("\n")[:-1]]


async def again(coterie: Coterie) -> list[int]:
    ran = await coterie("receive", "--json", home="bob")
    assert (ran.code, said(ran.err)) == (0, "")
    return numbers(ran.out)


async def test_a_pipe_that_takes_a_part_gets_the_rest(
    alice: Settings, bob: Settings, server: Server, tmp_path: Path, coterie: Coterie
) -> None:
    await waiting(alice, 500)
    read, write = os.pipe()
    os.set_blocking(write, False)
    got = bytearray()

    def slowly() -> None:
        while data := os.read(read, 3000):
            got.extend(data)
            time.sleep(0.002)

    reader = threading.Thread(target=slowly)
    reader.start()
    code, err = await receive(server, tmp_path, write)
    await asyncio.to_thread(reader.join)
    os.close(read)
    assert (code, err) == (0, "")
    assert numbers(bytes(got)) == list(range(COUNT))
    assert await again(coterie) == []


@pytest.mark.parametrize("length", [10, 5000])
async def test_what_a_reader_that_goes_did_not_take_comes_again(
    length: int, alice: Settings, bob: Settings, server: Server, tmp_path: Path, coterie: Coterie
) -> None:
    await waiting(alice, length)
    process = await asyncio.create_subprocess_shell(
        f"{sys.executable} -m coterie_client receive --json | head -n 3",
        env=environment(tmp_path / "bob", server.url, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, said(err)) == (0, "")
    first = numbers(out)
    assert first == [0, 1, 2]
    assert await again(coterie) == list(range(3, COUNT))


async def test_a_closed_pipe_shows_nothing(
    alice: Settings, bob: Settings, server: Server, tmp_path: Path, coterie: Coterie
) -> None:
    await waiting(alice, 10, 3)
    read, write = os.pipe()
    os.close(read)
    assert await receive(server, tmp_path, write) == (0, "")
    assert await again(coterie) == [0, 1, 2]


async def test_a_reader_that_waits_for_the_end_first_is_not_waited_for_for_ever(
    alice: Settings, bob: Settings, server: Server, tmp_path: Path, coterie: Coterie
) -> None:
    await waiting(alice, 10, 20)
    read, write = os.pipe()
    assert await receive(server, tmp_path, write) == (0, "")
    assert numbers(os.read(read, 65536)) == list(range(20))
    assert fcntl.fcntl(read, fcntl.F_GETPIPE_SZ) > 4096
    os.close(read)
    assert await again(coterie) == []


async def test_a_full_device_is_told_once(
    alice: Settings, bob: Settings, server: Server, tmp_path: Path, coterie: Coterie, world: World
) -> None:
    await waiting(alice, 10, 3)
    for arguments in ([], ["--follow"]):
        full = os.open("/dev/full", os.O_WRONLY)
        code, err = await receive(server, tmp_path, full, *arguments)
        assert (code, err) == (1, "coterie: the system refused: No space left on device (standard output)\n")
        assert len(world.pending("bob")) == 3
    assert await again(coterie) == [0, 1, 2]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here: the full disk is not tried")
    yield place
    subprocess.run(["umount", place], check=True)


async def test_a_full_disk_keeps_what_was_written_and_the_rest_comes_again(
    alice: Settings, bob: Settings, server: Server, tmp_path: Path, coterie: Coterie, small_disk: Path
) -> None:
    await waiting(alice, 500)
    file = os.open(small_disk / "out", os.O_WRONLY | os.O_CREAT)
    code, err = await receive(server, tmp_path, file)
    assert (code, err) == (1, "coterie: the system refused: No space left on device (standard output)\n")
    first = numbers((small_disk / "out").read_bytes())
    assert first == list(range(len(first)))
    assert 10 < len(first) < COUNT
    assert await again(coterie) == list(range(len(first), COUNT))


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-", "2>&-", "<&-"])
async def test_a_stream_that_is_closed_takes_nothing_for_shown_and_no_file_for_itself(
    closed: str, alice: Settings, bob: Settings, server: Server, tmp_path: Path, coterie: Coterie
) -> None:
    await waiting(alice, 10, 3)
    process = await asyncio.create_subprocess_shell(
        f"{sys.executable} -m coterie_client receive --json {closed}",
        env=environment(tmp_path / "bob", server.url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    shown = numbers(out)
    if ">&- " in closed + " " and not closed.startswith("2"):
        assert process.returncode == 1
        refused = "coterie: the system refused: Bad file descriptor (standard output)\n"
        assert said(err) == ("" if "2>&-" in closed else refused)
        assert shown == []
    else:
        assert (process.returncode, said(err), shown) == (0, "", [0, 1, 2])
    assert await again(coterie) == [n for n in range(3) if n not in shown]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["history", "--help"], ["whoami"], ["whoami", "--json"], ["history", "bob"], ["contacts", "--json"]],
)
async def test_every_command_that_prints_says_when_it_could_not(
    arguments: list[str], alice: Settings, server: Server, tmp_path: Path, coterie: Coterie, bob: Settings
) -> None:
    await waiting(alice, 10, 3)
    await coterie("contacts", "add", "bob")
    full = os.open("/dev/full", os.O_WRONLY)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "coterie_client", *arguments,
        env=environment(tmp_path / "alice", server.url), stdout=full, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(full)
    _, err = await process.communicate()
    assert (process.returncode, err) == (1, b"coterie: the system refused: No space left on device (standard output)\n")


async def test_send_sends_though_nobody_reads_the_id(
    alice: Settings, bob: Settings, server: Server, tmp_path: Path, coterie: Coterie
) -> None:
    for where, code in (("| true", 0), ("> /dev/full", 1), (">&-", 1)):
        process = await asyncio.create_subprocess_shell(
            f"{sys.executable} -m coterie_client send bob 0000 {where}",
            env=environment(tmp_path / "alice", server.url),
            stderr=subprocess.PIPE,
        )
        _, err = await process.communicate()
        assert process.returncode == code
        told = b" is stored, but this could not be written: " in err and b"do not send it again" in err
        assert told == (code == 1), err
        assert await again(coterie) == [0]


def test_items_count_as_written_only_when_they_are_whole(tmp_path: Path) -> None:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    got = bytearray()

    def take() -> None:
        got.extend(os.read(read, 1024))
        time.sleep(0.05)
        os.close(read)

    taker = threading.Thread(target=take)
    taker.start()
    with os.fdopen(write, "w") as stream:
        screen = Screen(stream)
        items = [Shown(f"{n:03d}" + "x" * 997) for n in range(100)]
        count = screen.write_shown(*items)
        taker.join()
        assert 1 <= count < 10
        assert isinstance(screen.lost, BrokenPipeError)
        assert screen.write_shown(Shown("more")) == 0
