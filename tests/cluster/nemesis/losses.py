"""The faults that take a disk, or change who is in the ring: never more than one disk until the ring is whole again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.cluster.nemesis.cluster import Victim, registers
from tests.cluster.nemesis.faults import READY_SECONDS, episode, fault, started_again
from tests.cluster.nemesis.siege import Siege, any_of

LEAVE_SECONDS = 60.0
FEWEST = 4
"""Nodes that stay when one leaves."""
MOST_EXTRA = 2
"""Nodes beyond those that the ring began with."""
_FRAME = 24 + 4096
_LOG_HEADER = 32
QUIET = 3.0
"""Seconds without a change of any account before a log is cut, so that what is cut off is messages."""


async def lose(
    siege: Siege,
    dice: random.Random,
    kind: str,
    damage: Callable[[Victim], None],
    back: Callable[[Victim], Awaitable[None]],
    quiet: float = 0.0,
) -> None:
    """Take one disk of a ring that is whole, and let other faults go on: the next one waits until it is whole again.

    For `quiet` seconds before it is taken accounts are left alone.
    """
    async with siege.queued(siege.disk), contextlib.AsyncExitStack() as calm:
        await calm.enter_async_context(siege.queued(siege.long))
        await calm.enter_async_context(siege.calm())
        if not await siege.whole():
            return
        async with siege.seized(any_of(dice)) as victim:
            with episode(siege, kind):
                if quiet:
                    siege.books.accounts_change.clear()
                    calm.callback(siege.books.accounts_change.set)
                    await asyncio.sleep(quiet)
                await victim.kill_now()
                await asyncio.to_thread(damage, victim)
                await calm.aclose()
                await back(victim)


@fault("disk deleted")
async def disk_deleted(siege: Siege, dice: random.Random, kind: str) -> None:
    async def back(victim: Victim) -> None:
        await asyncio.sleep(dice.uniform(0, 3))
        await started_again(siege, [victim])

    await lose(siege, dice, kind, Victim.wipe, back)


@fault("record corrupted")
async def record_corrupted(siege: Siege, dice: random.Random, kind: str) -> None:
    def damage(victim: Victim) -> None:
        _corrupt(victim.database, dice)
        if victim.disk is not None:
            victim.disk.forget()  # whoever closes the database last has synced it

    await lose(siege, dice, kind, damage, lambda victim: _back(siege, victim))


def _corrupt(database: Path, dice: random.Random) -> None:
    """Change bytes of a few mailbox records below their checksums, pending ones first."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT seq, body FROM records ORDER BY state, seq DESC LIMIT 5").fetchall()
        for seq, body in dice.sample(rows, min(len(rows), 3)):
            wrong = bytearray(body)
            if wrong:
                wrong[dice.randrange(len(wrong))] ^= 1 << dice.randrange(8)
            connection.execute("UPDATE records SET body = ? WHERE seq = ?", (bytes(wrong), seq))
        connection.commit()


@fault("log truncated")
async def log_truncated(siege: Siege, dice: random.Random, kind: str) -> None:
    """Cut synced commits off a node's log. Its records may go so; a node that forgets what it has voted breaks every
    consensus and cannot know it, so where the cut would take registers, the whole directory goes, as a person would do.
    """

    def damage(victim: Victim) -> None:
        size = harmless_cut(victim.database)
        if size is None:
            siege.books.note(f"{victim.name}: no cut of the log spares the registers; all of the disk went")
            victim.wipe()
            return
        victim.cut = True
        os.truncate(f"{victim.database}-wal", size)
        for shared in victim.place.data.glob("*-shm"):
            shared.unlink()
        if victim.disk is not None:
            victim.disk.forget()

    await lose(siege, dice, kind, damage, lambda victim: _back(siege, victim), QUIET)


def harmless_cut(database: Path) -> int | None:
    """Return to which length the log can be cut so that records are lost and no register is; None: to none."""
    log = Path(f"{database}-wal")
    if not log.exists() or log.stat().st_size <= _LOG_HEADER:
        return None
    aside = database.parent.with_suffix(".cut")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        os.link(database, aside / database.name)
        frames = (log.stat().st_size - _LOG_HEADER) // _FRAME

        def left(count: int) -> tuple[list[object], int]:
            """Return the registers and the newest record of a log of so many frames."""
            for name in aside.glob("*-*"):
                name.unlink()
            shutil.copy(log, aside / log.name)
            os.truncate(aside / log.name, _LOG_HEADER + count * _FRAME)
            uri = f"file:{aside / database.name}?mode=ro"
            try:
                with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
                    (last,) = connection.execute("SELECT max(seq) FROM records").fetchone()
                return registers(aside / database.name, read_only=True), last or 0
            except sqlite3.DatabaseError:
                return [], 0  # malformed with so little of its log

        have, newest = all_of_it = left(frames)
        # Behind the newest commit lies what an earlier turn of the log has left.
        used = bisect_left(range(frames), True, key=lambda count: left(count) == all_of_it)
        best, step = None, 1
        while step < used:
            with_registers, last = left(used - step)
            if with_registers != have:
                break
            if last < newest:
                best = _LOG_HEADER + (used - step) * _FRAME
            step *= 2
        return best
    finally:
        shutil.rmtree(aside, ignore_errors=True)


async def _back(siege: Siege, victim: Victim) -> None:
    """Start a node whose disk is damaged; one that refuses it gets an empty one, as its operator would do."""
    victim.start()
    if not await victim.ready_within(READY_SECONDS):
        siege.books.note(f"{victim.name} did not start from a damaged disk and got an empty one: {victim.last_words}")
        if victim.running:
            await victim.kill_now()
        await asyncio.to_thread(victim.wipe)
        await started_again(siege, [victim])


# --- Who is in the ring ---


@fault("leave", "leave in a crash")
async def leave(siege: Siege, dice: random.Random, kind: str) -> None:
    """A node leaves, is emptied, and comes back as a new one; in between another may crash, or the leaving one."""
    async with siege.queued(siege.long):
        await siege.until(lambda: len([node for node in siege.cluster.nodes if node.expected]) > FEWEST)
        async with siege.seized(any_of(dice)) as victim:
            with episode(siege, kind):
                if not await _asked_to_leave(siege, victim):
                    siege.books.note(f"{victim.name} did not take the wish to leave")
                    return
                if kind == "leave in a crash":
                    await asyncio.sleep(dice.uniform(0, 2))
                    await _crash(siege, dice, victim)
                await _gone(siege, victim)
            await asyncio.sleep(dice.uniform(0, 5))
            await started_again(siege, [victim])


async def _asked_to_leave(siege: Siege, victim: Victim) -> bool:
    """Say whether a node takes the wish to leave; one that is just starting, or busy, is asked again."""
    for _ in range(10):
        if await victim.ask_to("leave", siege.cluster.token):
            return True
        await asyncio.sleep(0.5)
    return False


async def _crash(siege: Siege, dice: random.Random, leaving: Victim) -> None:
    if dice.random() < 0.3:
        await leaving.kill_now()
        await asyncio.sleep(dice.uniform(0, 2))
        leaving.start()
        return
    async with siege.seized(any_of(dice)) as other:
        await other.kill_now()
        await asyncio.sleep(dice.uniform(0, 4))
        await started_again(siege, [other])


async def _gone(siege: Siege, victim: Victim) -> None:
    """Wait until a node has left, then stop and empty it; one that has not left in time stays."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while (state := await victim.state()) != "left":
        if time.monotonic() > deadline:
            siege.books.note(f"{victim.name} has not left within {LEAVE_SECONDS:.0f} s among other faults ({state})")
            await victim.ask_to("cancel-leave", siege.cluster.token)
            if await victim.state() != "left":
                return
        if state not in ("leaving", ""):
            await victim.ask_to("leave", siege.cluster.token)  # it came back from a crash before it had noted the wish
        await asyncio.sleep(0.2)
    await victim.terminate_now()
    await asyncio.to_thread(victim.wipe)


@fault("join")
async def join(siege: Siege, dice: random.Random, kind: str) -> None:
    """One node more; or, where enough have come, one of them leaves for good."""
    cluster = siege.cluster
    away = [node for node in cluster.nodes if not node.expected and not node.running and not siege.held(node)]
    extra = [node for node in cluster.nodes[cluster.begun :] if node.expected]
    if len(extra) >= MOST_EXTRA:
        async with (
            siege.queued(siege.long),
            siege.seized(lambda nodes: next((n for n in nodes if n in extra), None)) as victim,
        ):
            with episode(siege, kind):
                if await _asked_to_leave(siege, victim):
                    await _gone(siege, victim)
        return
    if not away:
        away = [cluster.add()]
        await cluster.stand(away[0])
    with episode(siege, kind), siege.holding([away[0]]):
        await started_again(siege, [away[0]])
