"""WebSocket frames without a request in them: what they cost is counted, and nobody waits for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest
from tests.mute import Mute
from tests.rawhttp import websocket_frame
from tests.unit.api.lone_node import LoneNode, connected, lone_node
from tests.unit.api.test_client_floods import from_elsewhere

from coterie_node.api.connection import FRAME_BYTES, STRANGER_FRAME_BYTES
from coterie_node.chat.settings import ChatSettings
from coterie_node.http.guard import FRAMES_AT_ONCE, FRAMES_OF_SOURCE
from coterie_node.http.masks import Heads
from coterie_protocol.client_api import Hello, LoginParams, Resume

SECONDS = 1.0
AT_ONCE = int(8 * ChatSettings().stranger_bytes_per_second / STRANGER_FRAME_BYTES)
PING = websocket_frame(b"", opcode=9)
PONG = websocket_frame(b"", opcode=10)
EMPTY = websocket_frame(b"\x90")
"""A message of no frames."""
FRAGMENT = websocket_frame(b"", opcode=0, final=False)
BEGINNING = websocket_frame(b"\x90", final=False)


async def greeted(node: LoneNode, stack: contextlib.AsyncExitStack) -> Mute:
    one = await Mute.connect(node.url)
    stack.callback(one.abort)
    await one.upgrade()
    one.ask((1, Hello(1, 1, "test")))
    await one.frames()
    return one


class Taken:
    """The frames that a node's connections take, by turns of the loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.total = self.most = 0
        self._turn = 0
        take = Heads.take

        def counted(heads: Heads, data: bytes, most: int) -> tuple[int, int]:
            found = take(heads, data, most)
            if not self._turn:
                asyncio.get_running_loop().call_soon(self._over)
            self._turn += found[1]
            self.total += found[1]
            return found

        monkeypatch.setattr(Heads, "take", counted)

    def _over(self) -> None:
        self.most, self._turn = max(self.most, self._turn), 0


@pytest.mark.parametrize(("first", "again"), [(b"", PING), (b"", PONG), (b"", EMPTY), (BEGINNING, FRAGMENT)])
async def test_frames_of_a_stranger_are_taken_at_a_rate_whatever_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bytes, again: bytes
) -> None:
    taken = Taken(monkeypatch)
    async with lone_node(tmp_path) as node, contextlib.AsyncExitStack() as stack:
        flood = await greeted(node, stack)
        begun = time.perf_counter()
        flood.writer.write(first + 10_000 * again)
        async with from_elsewhere(node) as other:
            await other.hello()
        await asyncio.sleep(SECONDS)
        rate = ChatSettings().stranger_bytes_per_second / STRANGER_FRAME_BYTES
        allowed = AT_ONCE + FRAMES_AT_ONCE + rate * (time.perf_counter() - begun) + 10
        assert AT_ONCE <= taken.total <= allowed
        assert taken.most <= FRAMES_AT_ONCE + 4


async def test_frames_of_one_session_have_one_rate_on_all_its_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ChatSettings(bytes_per_second=100 * FRAME_BYTES)  # 300 frames a second, 600 at once.
    async with lone_node(tmp_path, settings) as node, contextlib.AsyncExitStack() as stack:
        owner = await stack.enter_async_context(connected(node.url))
        await owner.hello()
        granted = await owner.register("mallory")
        flood = [await greeted(node, stack) for _ in range(8)]
        for one in flood:
            one.ask((2, Resume("mallory", granted.token)))
            while all(frame.id != 2 for frame in await one.frames()):
                pass
        taken = Taken(monkeypatch)
        begun = time.perf_counter()
        for one in flood:
            one.writer.write(10_000 * PING)
        await asyncio.sleep(SECONDS)
        allowed = 600 + 300 * (time.perf_counter() - begun) + len(flood) * FRAMES_AT_ONCE
        assert 600 <= taken.total <= allowed
        assert taken.most <= FRAMES_OF_SOURCE + len(flood)


async def test_what_comes_behind_many_frames_is_served_in_its_turn(tmp_path: Path) -> None:
    async with lone_node(tmp_path) as node, contextlib.AsyncExitStack() as stack:
        one = await greeted(node, stack)
        for _ in range(3):
            one.writer.write((AT_ONCE // 4) * PING)
            one.ask((2, LoginParams("nobody")))
            assert [frame.id for frame in await one.frames()] == [2]


@pytest.mark.parametrize("most", [1, 2, 64])
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_heads_are_counted_however_the_bytes_come(most: int, size: int) -> None:
    stream = (
        PING
        + EMPTY
        + websocket_frame(bytes(200))
        + websocket_frame(bytes(70_000))
        + FRAGMENT
        + websocket_frame(bytes(125))
    )
    heads, number, rest = Heads(), 0, b""
    for at in range(0, len(stream), size):
        rest = stream[at : at + size]
        while rest:
            used, found = heads.take(rest, most)
            assert used > 0
            assert found <= most
            number += found
            rest = rest[used:]
    assert number == 6
