"""The faults that leave every disk as fsync promised: any number of them may be at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

from tests.cluster.nemesis.cluster import Victim
from tests.cluster.nemesis.siege import Siege, any_of

from coterie_protocol.identifiers import DEFAULT_SLOTS, slot_of_name

READY_SECONDS = 30.0
"""How long a fault that has started a node again goes on looking whether it is ready."""
Fault = Callable[[Siege, random.Random, str], Awaitable[None]]
FAULTS: dict[str, Fault] = {}


def fault(*kinds: str) -> Callable[[Fault], Fault]:
    """Give a fault its names."""

    def named(function: Fault) -> Fault:
        FAULTS.update(dict.fromkeys(kinds, function))
        return function

    return named


@contextlib.contextmanager
def episode(siege: Siege, *kinds: str) -> Iterator[None]:
    """Count what is sent meanwhile under these kinds."""
    begun = siege.books.availability.begin(*kinds)
    try:
        yield
    finally:
        siege.books.availability.end(begun)


@contextlib.asynccontextmanager
async def victim_of(siege: Siege, dice: random.Random, kind: str) -> AsyncIterator[Victim]:
    """Have the node that a kind's name is about."""
    choose: Callable[[Sequence[Victim]], Victim | None]
    if kind.endswith("the owner"):
        name = dice.choice(siege.people).name
        owner = await siege.cluster.acting_for(slot_of_name(name, DEFAULT_SLOTS), siege.free)
        choose = wanted(owner)
    elif kind.endswith("a gateway"):
        url = dice.choice(siege.people).connection.url
        choose = wanted(next((node for node in siege.cluster.nodes if node.url == url), None))
    else:
        choose = any_of(dice)
    async with siege.seized(choose) as victim:
        yield victim


def wanted(node: Victim | None) -> Callable[[Sequence[Victim]], Victim | None]:
    """Return what chooses a certain node, if it is among them."""
    return lambda nodes: node if node in nodes else None


async def started_again(siege: Siege, nodes: Sequence[Victim]) -> None:
    """Start nodes, and wait until they are ready."""
    for node in nodes:
        if not node.running:
            node.start()
    ready = await asyncio.gather(*(node.ready_within(READY_SECONDS) for node in nodes))
    late = [node.name for node, yes in zip(nodes, ready, strict=True) if not yes]
    if late:
        siege.books.note(f"not ready within {READY_SECONDS:.0f} s of their start, among other faults: {late}")


@fault("kill", "kill the owner", "kill a gateway")
async def kill(siege: Siege, dice: random.Random, kind: str) -> None:
    async with victim_of(siege, dice, kind) as victim:
        with episode(siege, kind):
            await victim.kill_now()
            await asyncio.sleep(dice.choice((0.0, dice.uniform(0, 2), dice.uniform(0, 6))))
            await started_again(siege, [victim])


@fault("freeze", "freeze the owner", "freeze a gateway", "freeze for a minute")
async def freeze(siege: Siege, dice: random.Random, kind: str) -> None:
    seconds = 60.0 if kind == "freeze for a minute" else dice.choice((dice.uniform(0.3, 2), dice.uniform(1, 5)))
    async with contextlib.AsyncExitStack() as stack:
        if kind == "freeze for a minute":
            await stack.enter_async_context(siege.queued(siege.long))
        victim = await stack.enter_async_context(victim_of(siege, dice, kind))
        with episode(siege, kind):
            victim.freeze()
            try:
                await asyncio.sleep(seconds)
            finally:
                victim.thaw()


@fault("partition in two", "partition one way", "isolate")
async def partition(siege: Siege, dice: random.Random, kind: str) -> None:
    names = [node.name for node in siege.cluster.nodes if node.expected or siege.held(node)]
    dice.shuffle(names)
    if kind == "partition in two":
        cut = dice.randint(1, len(names) - 1)
        directions = across(names[:cut], names[cut:], both=True)
    elif kind == "isolate":
        directions = across(names[:1], names[1:], both=True)
    else:
        cut = dice.randint(1, len(names) - 1)
        directions = across(names[:1], names[1 : 1 + cut], both=False)
    key = object()
    with episode(siege, kind):
        siege.cluster.network.cut(key, directions)
        try:
            await asyncio.sleep(dice.choice((dice.uniform(0.5, 3), dice.uniform(2, 9))))
        finally:
            siege.cluster.network.heal(key)


def across(some: Sequence[str], others: Sequence[str], *, both: bool) -> list[tuple[str, str]]:
    """Return every direction from some to others, and back if `both`."""
    pairs = list(itertools.product(some, others))
    return pairs + [(to, source) for source, to in pairs] if both else pairs


@fault("slow disk", "full disk", "clock jump")
async def held_disk(siege: Siege, dice: random.Random, kind: str) -> None:
    async with siege.seized(any_of(dice)) as victim:
        disk = victim.disk
        assert disk is not None
        with episode(siege, kind):
            try:
                if kind == "slow disk":
                    disk.slow(dice.choice((0.02, 0.1, 0.5)))
                elif kind == "full disk":
                    disk.full(True)
                else:
                    disk.clock(dice.choice((-1, 1)) * dice.choice((2.0, 60.0, 3600.0, 86400.0)) * dice.random())
                await asyncio.sleep(dice.uniform(1, 6))
            finally:
                disk.slow(0)
                disk.full(False)
                disk.clock(0)


@fault("power cut")
async def power_cut(siege: Siege, dice: random.Random, kind: str) -> None:
    async with siege.seized(any_of(dice)) as victim:
        with episode(siege, kind):
            await victim.kill_now()
            assert victim.disk is not None
            await asyncio.to_thread(victim.disk.lose_unsynced, dice)
            await asyncio.sleep(dice.uniform(0, 3))
            await started_again(siege, [victim])


@fault("kill all", "power cut of all")
async def all_at_once(siege: Siege, dice: random.Random, kind: str) -> None:
    """A power cut is one of all nodes; `kill all` takes those that no other fault has in its hands just then."""
    async with contextlib.AsyncExitStack() as stack:
        if kind == "power cut of all":
            await stack.enter_async_context(siege.queued(siege.long))
            await stack.enter_async_context(siege.calm())
        nodes = await stack.enter_async_context(siege.seized_all())
        with episode(siege, kind):
            for node in nodes:
                node.expected = False
                node.signal(9)
            await asyncio.gather(*(node.kill_now() for node in nodes))
            if kind == "power cut of all":
                for node in nodes:
                    assert node.disk is not None
                    await asyncio.to_thread(node.disk.lose_unsynced, dice)
            await started_again(siege, dice.sample(nodes, len(nodes)))


@fault("rolling restart")
async def rolling_restart(siege: Siege, dice: random.Random, kind: str) -> None:
    async with siege.queued(siege.long):
        with episode(siege, kind):
            for node in [node for node in siege.cluster.nodes if node.expected]:
                async with siege.seized(wanted(node)) as victim:
                    code = await victim.terminate_now()
                    if code != 0:
                        siege.books.note(f"{victim.name} ended with exit code {code} on SIGTERM: {victim.last_words}")
                    await started_again(siege, [victim])
