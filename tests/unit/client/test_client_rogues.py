"""The client beside what is no coterie node, or one that breaks the protocol in other ways than by a value."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect
from tests.unit.client import forked
from tests.unit.client.liar import WIRE_TYPES, Speak, drawn, sample
from tests.unit.client.test_client_liars import AT_ONCE, LOGIN, RECEIVE, SEND, case, honest_after, unclean

from coterie_protocol.client_api import Closing, ServerFrame, Welcome
from coterie_protocol.frames import encode

pytestmark = pytest.mark.timeout(600)
DRAWN = 3
"""Rogues of each sort that are met in a run (liar.EVERY_LIE)."""
Raw = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
COMMANDS = (SEND, RECEIVE, LOGIN)


async def checked(where: Path, command: tuple[str, ...], speak: Speak | None = None, raw: Raw | None = None) -> str:
    """Run a command against a rogue, then an honest server; say what is wrong, "" if nothing is."""
    async with case(where) as at:
        if speak is not None:
            at.liar.speak = speak
            ran = await at.told(at.liar, *command)
        else:
            assert raw is not None
            async with listening(raw) as url:
                env = {"COTERIE_HOME": str(at.home), "COTERIE_SERVERS": url}
                ran = await forked.coterie(*command, where=where, env=env, stdin=b"correct horse")
        if wrong := unclean(ran):
            return f"{command[0]}: {wrong}: {ran}"
        if made := at.made():
            return f"{command[0]} made {made}"
        if raw is not None and ran.code not in (5, 8):
            return f"{command[0]} ended with {ran}"
        return await honest_after(at, command)


async def all_checked(tmp_path: Path, rogues: Mapping[str, Speak], raws: Mapping[str, Raw]) -> None:
    """Run every command against each of these, a dozen beside each other: most of the time they wait."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, name: str, command: tuple[str, ...]) -> str:
        async with turn:
            wrong = await checked(tmp_path / str(number), command, rogues.get(name), raws.get(name))
            return f"{name}: {wrong}" if wrong else ""

    tries = itertools.product([*rogues, *raws], COMMANDS)
    found = await asyncio.gather(*(one(number, *each) for number, each in enumerate(tries)))
    wrongs = [wrong for wrong in found if wrong]
    assert not wrongs, f"{len(wrongs)} of {len(found)}:\n" + "\n".join(wrong[:600] for wrong in wrongs)


@asynccontextmanager
async def listening(raw: Raw) -> AsyncIterator[str]:
    """Run a server of bare sockets."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await raw(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- what is said over a proper WebSocket ---------------------------------------------------------------------------


def other_kind(kind: type[msgspec.Struct]) -> Speak:
    def speak(frames: Sequence[ServerFrame]) -> bytes:
        said = msgspec.msgpack.decode(encode(frames))
        for frame, honest in zip(said, frames, strict=True):
            if frame[0] and not isinstance(honest.body, Welcome):
                frame[1] = sample(inspect.type_info(kind))
        return msgspec.msgpack.encode(said)

    return speak


@pytest.mark.slow
async def test_answers_of_another_kind(tmp_path: Path) -> None:
    await all_checked(tmp_path, {kind.__name__: other_kind(kind) for kind in drawn(WIRE_TYPES, DRAWN)}, {})


def duplicated(frames: Sequence[ServerFrame]) -> bytes:
    return encode([*frames, *frames])


def unasked(frames: Sequence[ServerFrame]) -> bytes:
    return encode([ServerFrame(frame.id + 1000, frame.body) for frame in frames if frame.id] + list(frames))


def closing(frames: Sequence[ServerFrame]) -> bytes:
    return encode([*frames, ServerFrame(0, Closing())])


SPEECHES: dict[str, Speak] = {
    "each answer twice": duplicated,
    "answers to requests never made": unasked,
    "going away with every word": closing,
    "garbage": lambda frames: b"\xc1" * 1000,
    "nothing in it": lambda frames: b"",
    "an empty list": lambda frames: b"\x90",
    "too large": lambda frames: bytes(17 * 1024 * 1024),
    "a list without end": lambda frames: b"\xdd\xff\xff\xff\xff" + b"\x92\x00\x91\x37" * 1000,
    "deep": lambda frames: b"\x91" * 100_000,
    "a million events": lambda frames: b"\xdd\x00\x0f\x42\x40" + b"\x92\x00\x91\x36" * 1_000_000,
}


@pytest.mark.slow
async def test_servers_that_break_the_protocol(tmp_path: Path) -> None:
    await all_checked(tmp_path, dict(drawn(SPEECHES.items(), DRAWN)), {})


# --- what is no coterie node, or hangs ------------------------------------------------------------------------------


async def request_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def upgraded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    asked = await request_of(reader)
    key = asked.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def saying(answer: bytes) -> Raw:
    async def raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(answer)
        await writer.drain()

    return raw


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def shut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def silent_after_upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await upgraded(reader, writer)
    await asyncio.Event().wait()


async def shut_after_upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await upgraded(reader, writer)
    await writer.drain()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await upgraded(reader, writer)
    writer.write(b"\x82\x7e\xff\xff")
    while True:
        writer.write(b"\x90")
        await writer.drain()
        await asyncio.sleep(0.05)


async def texts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await upgraded(reader, writer)
    writer.write(b"\x81\x05hello")
    await asyncio.Event().wait()


async def endless_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 4000 + b"\r\n")
        await writer.drain()


RAW: dict[str, Raw] = {
    "says nothing": silent,
    "shuts at once": shut,
    "says nothing after the upgrade": silent_after_upgrade,
    "shuts after the upgrade": shut_after_upgrade,
    "drips": dripping,
    "speaks text": texts,
    "has a header without end": endless_header,
    "is a page": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    "is a page without end": saying(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000),
    "is not found": saying(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    "wants a password": saying(b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'),
    "has failed": saying(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
    "is full": saying(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
    "is an SSH server": saying(b"SSH-2.0-OpenSSH_9.7\r\n"),
    "has a hostile reason": saying(b"HTTP/1.1 404 \x1b[2J\xe2\x80\xae\r\nContent-Length: 0\r\n\r\n"),
    "accepts with another key": saying(
        b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
    ),
}


@pytest.mark.slow
async def test_what_is_no_node(tmp_path: Path) -> None:
    await all_checked(tmp_path, {}, dict(drawn(RAW.items(), DRAWN)))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(tmp_path: Path, status: int) -> None:
    """It would take the resume token to any host."""
    asked: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(100))

    async with case(tmp_path / "case") as at, listening(elsewhere) as there:
        location = there.replace("ws://", "http://").encode()
        answer = b"HTTP/1.1 %d x\r\nLocation: %s/v1/client\r\nContent-Length: 0\r\n\r\n" % (status, location)
        async with listening(saying(answer)) as url:
            env = {"COTERIE_HOME": str(at.home), "COTERIE_SERVERS": url}
            ran = await forked.coterie(*RECEIVE, where=at.where, env=env)
    assert ran.code == 5
    assert "no redirect is followed" in ran.err
    assert not unclean(ran)
    assert asked == []


async def test_tls_to_a_port_without_it_is_said_in_words(tmp_path: Path) -> None:
    async with case(tmp_path / "case") as at:
        env = {"COTERIE_HOME": str(at.home), "COTERIE_SERVERS": at.honest.url.replace("ws://", "wss://")}
        ran = await forked.coterie(*RECEIVE, where=at.where, env=env)
    assert ran.code == 5
    assert not unclean(ran)
    assert "TLS failed" in ran.err
    assert "SSLContext" not in ran.err
    assert "ssl:" not in ran.err
