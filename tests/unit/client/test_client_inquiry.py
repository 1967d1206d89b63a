"""A conversation that stays open asks for the states whose receipts are missing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.unit.client.gateway import Server, World
from tests.unit.client.ptys import on_terminal
from tests.unit.client.talk import opened, waiting

from coterie_client import inquiry
from coterie_client.history import Message
from coterie_client.inquiry import Inquiry
from coterie_client.settings import Settings
from coterie_protocol.client_api import States


def questions(world: World) -> int:
    return sum(isinstance(request, States) for request in world.requests)


async def test_a_receipt_that_was_lost_in_a_restart_is_asked_for_after_it(
    world: World, server: Server, alice: Settings, bob: Settings, tmp_path: Path
) -> None:
    async with on_terminal(tmp_path / "alice", server.url, "chat", "bob") as terminal:
        await terminal.until(lambda screen: screen.endswith(">"))
        await terminal.type("hello\r")
        await terminal.until(lambda screen: "you ✓: hello" in screen)
        port = int(server.url.rsplit(":", 1)[1])
        await server.kill()
        # He saves it while she has no server: nobody tells her of it later.
        mailbox = world.accounts["bob"].mailbox
        ((key, item),) = mailbox.items()
        mailbox[key] = msgspec.structs.replace(item, state=2)
        await server.start(port)
        await terminal.until(lambda screen: "you ✓✓: hello" in screen)
        await terminal.type("\x04")
        assert await terminal.end() == 0


async def test_a_receipt_that_never_comes_is_asked_for_after_some_silence_and_less_and_less_often(
    world: World, alice: Settings, bob: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inquiry, "SILENCE", 0.05)
    monkeypatch.setattr(inquiry, "SILENCE_MOST", 0.2)
    async with opened(alice) as client:
        moved: asyncio.Queue[Message] = asyncio.Queue()
        asking = Inquiry(client.connection, client.sender, client.account.outbox, "bob")
        task = asyncio.create_task(asking.run())
        await client.sender.send("bob", "x")
        client.sender.on_change = moved.put_nowait
        asking.stored()
        begun = asyncio.get_running_loop().time()
        await world.until(lambda: questions(world) >= 5)
        assert asyncio.get_running_loop().time() - begun >= 0.05 + 0.1 + 0.2
        world.accounts["alice"].links.clear()  # no receipt will be pushed
        await waiting(bob)
        assert (await asyncio.wait_for(moved.get(), 10)).state == "delivered"
        # Nothing is missing any more: whoever has no open question asks none.
        asked = questions(world)
        await asyncio.sleep(0.5)
        assert questions(world) == asked
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
