"""Single steps of a hand-over, for scripted scenarios: each runs the real proposer of one node."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

from tests.sim.invariants import short
from tests.sim.wire import Envelope, Predicate
from tests.sim.world import SETTINGS, Process, World

from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import Config, ConfigAccept, KnownConfig

SLOT = 0
"""Scripted scenarios have one slot, so every name is in it."""


N0, N1, N2, N3, N4, N5 = (Uid(f"n{number}") for number in range(6))
A, X, Y = Uid("a"), Uid("x"), Uid("y")

PATIENT = replace(SETTINGS, round_timeout=30.0, account_timeout=60.0)
"""For a node whose operation a script holds up for seconds."""


async def start(world: World, *uids: Uid, patient: Uid | None = None) -> None:
    """Start nodes, the first one as the founder; all have heard where the slot is, and their links stand."""
    for uid in uids:
        await world.start(uid, found=uid == uids[0], settings=PATIENT if uid == patient else None)
        hint(world, uid, uids[0])
    await asyncio.sleep(0.2)


def hint(world: World, uid: Uid, holder: Uid) -> None:
    """Put what a node's disk holds into another node's cache, which only says where to send."""
    world.processes[uid].table.learn([held(world, holder)])


def held(world: World, uid: Uid) -> KnownConfig:
    """Return what a node's disk holds of the slot."""
    register = world.witness.registers[uid, SLOT]
    assert register.config is not None
    return KnownConfig(SLOT, register.accepted, register.config)


def gossip(world: World, uid: Uid, nodes: Iterable[Uid], rng: random.Random) -> None:
    """Give a node a hint that may be stale: what the disk of any of these holds, if one does."""
    registers = world.witness.registers
    holders = [one for one in nodes if (one, SLOT) in registers and registers[one, SLOT].config is not None]
    if holders:
        hint(world, uid, rng.choice(holders))


async def join(world: World, by: Uid, *wish: Uid) -> KnownConfig | None:
    """Have a node propose a joint configuration; return what is chosen then."""
    process = world.processes[by]
    return await _rounds(process, lambda: process.proposer.join({SLOT: wish}))


async def sync(world: World, by: Uid, joint: KnownConfig) -> bool:
    """Have a node bring a joint configuration's new members up to date; say whether it is complete."""
    process = world.processes[by]
    return bool(await process.call(lambda: process.sync.run([joint])))


async def settle(world: World, by: Uid, joint: KnownConfig) -> KnownConfig | None:
    """Have a node propose the plain configuration that follows; return what is chosen then."""
    process = world.processes[by]
    return await _rounds(process, lambda: process.proposer.settle([joint]))


async def confirm(world: World, by: Uid) -> KnownConfig | None:
    """Have a node accept again whatever it finds."""
    process = world.processes[by]
    return await _rounds(process, lambda: process.proposer.confirm([SLOT]))


async def _rounds(
    process: Process, work: Callable[[], Coroutine[Any, Any, dict[int, KnownConfig]]]
) -> KnownConfig | None:
    """Run a round until it succeeds, three times at most: the first may meet ballots that are higher than its own."""
    for _ in range(3):
        if (chosen := await process.call(work)).get(SLOT) is not None:
            return chosen[SLOT]
    return None


async def move(world: World, by: Uid, *wish: Uid) -> KnownConfig:
    """Carry a whole hand-over through."""
    joint = await join(world, by, *wish)
    assert joint is not None
    assert await sync(world, by, joint)
    plain = await settle(world, by, joint)
    assert plain is not None
    await asyncio.sleep(0.1)
    return plain


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds, for some ten seconds at most. Raises TimeoutError."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def outcome(work: Awaitable[bytes]) -> bytes | None:
    """Return what an operation returned, None when it was refused or its outcome is unknown."""
    try:
        return await work
    except CoterieError:
        return None


def joint_accepts(to: Uid) -> Predicate:
    """Match requests that a node accept a joint configuration."""

    def matches(envelope: Envelope) -> bool:
        body = envelope.body
        return envelope.to == to and isinstance(body, ConfigAccept) and body.items[0].config.joint

    return matches


def drawn(known: KnownConfig | Config | None) -> str:
    """Write a configuration as the protocol's page does; nothing is 'none'."""
    if known is None:
        return "none"
    return short(known.config if isinstance(known, KnownConfig) else known)


def at(world: World, uid: Uid) -> str:
    """Write what a node's disk holds of the slot."""
    register = world.witness.registers.get((uid, SLOT))
    return drawn(None if register is None else register.config)
