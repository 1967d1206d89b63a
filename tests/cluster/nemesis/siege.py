"""Which faults may be at the same time: what each has in its hands, and when all make room for one that needs calm."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from tests.cluster.nemesis.books import Books
from tests.cluster.nemesis.cluster import Cluster, Victim
from tests.cluster.nemesis.people import Person

CALM_SECONDS = 240.0
"""How long the ring may take to be whole once nothing new is broken; longer is complained of."""


class Siege:
    """The ring and what is being done to it."""

    def __init__(self, cluster: Cluster, books: Books, people: Sequence[Person]) -> None:
        self.cluster = cluster
        self.books = books
        self.people = people
        self.disk = asyncio.Lock()
        """Held by who takes a disk: the promise covers one at a time, of a ring that is whole."""
        self.long = asyncio.Lock()
        """Held by a fault that takes long, and by one that wants calm: else all others would wait for both."""
        self.wholes: list[float] = []
        """Seconds that the ring took to be whole, each time that somebody waited for it."""
        self._alone = asyncio.Lock()
        self._closed = 0
        self._open = asyncio.Event()
        self._open.set()
        self._busy: set[Victim] = set()
        self._under_way = 0
        self._changed = asyncio.Condition()

    # --- Faults that are under way ---

    @contextlib.asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Be one of the faults under way; waits while somebody wants calm."""
        while not self._open.is_set():
            await self._open.wait()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            await self._tell()

    @property
    def under_way(self) -> int:
        return self._under_way

    @contextlib.asynccontextmanager
    async def calm(self) -> AsyncIterator[None]:
        """Let nothing new begin, and wait until what else is under way has ended; for faults under way only."""
        self._closed += 1
        self._open.clear()
        self._under_way -= 1
        await self._tell()
        try:
            async with self._alone:
                self._under_way += 1
                try:
                    await self.until(lambda: self._under_way == 1)
                    yield
                finally:
                    self._under_way -= 1
        finally:
            self._under_way += 1
            self._closed -= 1
            if not self._closed:
                self._open.set()
            await self._tell()

    @contextlib.asynccontextmanager
    async def queued(self, lock: asyncio.Lock) -> AsyncIterator[None]:
        """Hold a lock; while waiting for it a fault does not count as under way."""
        self._under_way -= 1
        await self._tell()
        try:
            await lock.acquire()
        except BaseException:
            self._under_way += 1
            raise
        try:
            try:
                await self._open.wait()
            finally:
                self._under_way += 1
            yield
        finally:
            lock.release()

    async def whole(self) -> bool:
        """Wait in the calm until the ring is whole; complain if it does not get so."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        said = await self.cluster.whole(CALM_SECONDS)
        self.wholes.append(loop.time() - began)
        if said:
            self.books.complain(f"not whole after {CALM_SECONDS:.0f} s without a fault: {said}")
        return not said

    # --- Nodes ---

    @contextlib.asynccontextmanager
    async def seized(self, choose: Callable[[Sequence[Victim]], Victim | None]) -> AsyncIterator[Victim]:
        """Have a running node that no other fault has in its hands, chosen among them."""
        while True:
            free = self.free
            victim = choose(free) if free else None
            if victim is None and free:
                victim = free[0]
            if victim is not None:
                break
            async with self._changed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.5)
        with self.holding([victim]):
            yield victim
        await self._tell()

    @contextlib.asynccontextmanager
    async def seized_all(self) -> AsyncIterator[list[Victim]]:
        """Have all running nodes but those in the hands of other faults; waits until these are few."""
        await self.until(lambda: len(self.free) > len(self.cluster.nodes) // 2)
        with self.holding(self.free) as nodes:
            yield nodes
        await self._tell()

    @contextlib.contextmanager
    def holding(self, nodes: list[Victim]) -> Iterator[list[Victim]]:
        self._busy.update(nodes)
        try:
            yield nodes
        finally:
            self._busy.difference_update(nodes)

    @property
    def free(self) -> list[Victim]:
        """Return the running nodes that no fault has in its hands, in the order of their numbers."""
        return [node for node in self.cluster.nodes if node.running and node.expected and node not in self._busy]

    def held(self, node: Victim) -> bool:
        return node in self._busy

    async def until(self, what: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(what)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def any_of(dice: random.Random) -> Callable[[Sequence[Victim]], Victim]:
    """Return what chooses any node."""
    draw = dice.random()
    return lambda nodes: nodes[int(draw * len(nodes))]
