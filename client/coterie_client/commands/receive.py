"""`coterie receive`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from coterie_client.output import complain, json_line, message_json, message_lines, note

from .common import FOLLOW_PATIENCE, add_command, seconds, settings_of, tell_wait

if TYPE_CHECKING:
    from coterie_client.acquaintance import Acquaintance
    from coterie_client.client import Client
    from coterie_client.history import Message
    from coterie_client.terminal import Shown

LEFTOVERS = 5.0
"""Seconds for what the outbox, or another device, has left to be sent."""


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = add_command(
        subparsers,
        "receive",
        receive,
        summary="show the messages that wait",
        example="coterie receive\n  coterie receive --follow --json",
        lists=True,
        details="Each message is saved on this device before it is acknowledged, and shown once.",
    )
    parser.add_argument("--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    parser.add_argument("--timeout", type=seconds, metavar="S", help="wait up to S seconds for the first message")


async def receive(options: argparse.Namespace) -> int:
    """Run `coterie receive`."""
    import asyncio

    from coterie_client.client import Client
    from coterie_client.connection import PATIENCE
    from coterie_client.watch import Watch

    follow = options.follow
    async with Client.open(
        settings_of(options),
        receive=True,
        wait=not follow,
        patience=FOLLOW_PATIENCE if follow else PATIENCE,
        on_wait=None if follow else tell_wait,
        persistent=follow,
    ) as client:
        if options.follow:
            Watch(client.connection, note)
        client.archiver.on_full = complain
        await client.catch_up()
        client.mailbox.start()
        states = asyncio.create_task(client.sender.refresh(client.account.outbox.undelivered(200)))
        try:
            await _show(client, options)
            await asyncio.wait([states], timeout=1.0)
        finally:
            states.cancel()
            await asyncio.gather(states, return_exceptions=True)
        await client.sender.finish(LEFTOVERS)
        await client.archiver.flush(PATIENCE)
        if (failure := client.archiver.failure) is not None:
            failure.preface("what was shown is saved here, but could not be acknowledged; that is done next time")
            raise failure
    return 0


async def _show(client: Client, options: argparse.Namespace) -> None:
    import asyncio

    from coterie_client.acquaintance import Acquaintance
    from coterie_client.handing import Handing

    acquaintance = Acquaintance(client.account)
    me = client.account.session.name
    shown = False
    try:
        async with asyncio.timeout(None if options.follow else options.timeout) as limit:
            while True:
                batch = await client.mailbox.next_batch()
                if batch.messages:
                    for sentence in acquaintance.announce(message.peer for message in batch.messages):
                        note(f"coterie: {sentence}")
                    handing = Handing()
                    try:
                        await handing.run(*_lines(batch.messages, me, acquaintance, as_json=options.json))
                    finally:
                        if handing.count < len(batch.messages):
                            # The rest is not acknowledged, and comes again.
                            client.account.history.mark_shown(batch.messages[: handing.count])
                    shown = True
                    limit.reschedule(None)
                client.mailbox.done(batch)
                if batch.drained:
                    client.drained()
                    if not options.follow and (shown or options.timeout is None):
                        return
    except TimeoutError:
        if not limit.expired():
            raise


def _lines(messages: list[Message], me: str, acquaintance: Acquaintance, *, as_json: bool) -> list[Shown]:
    if as_json:
        return [json_line(message_json(message, me, acquaintance.true_one(message.peer))) for message in messages]
    return [message_lines(message, acquaintance.called) for message in messages]
