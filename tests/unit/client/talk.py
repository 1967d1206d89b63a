"""Sending and receiving by the library, for tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from coterie_client.client import Client
from coterie_client.history import Message
from coterie_client.settings import Settings


async def receive_all(client: Client, enough: Callable[[list[Message]], bool]) -> list[Message]:
    got: list[Message] = []
    async with asyncio.timeout(20):
        while True:
            batch = await client.mailbox.next_batch()
            got += batch.messages
            client.mailbox.done(batch)
            if batch.drained:
                client.drained()
            if batch.drained and enough(got):
                assert await client.archiver.flush(10)
                return got


async def waiting(settings: Settings) -> list[Message]:
    async with Client.open(settings, receive=True) as client:
        await client.catch_up()
        client.mailbox.start()
        got = await receive_all(client, lambda got: True)
        assert await client.sender.finish(10) == 0
        return got


def texts(messages: list[Message]) -> list[str | None]:
    return [message.text for message in messages]


@contextlib.asynccontextmanager
async def opened(settings: Settings, patience: float = 15.0) -> AsyncIterator[Client]:
    async with Client.open(settings, patience=patience) as client:
        yield client
