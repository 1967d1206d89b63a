"""Nodes die, freeze and return while people chat: what was acknowledged arrives, and is shown once."""

from __future__ import annotations

import asyncio

import pytest
from tests.sim.wire import Weather
from tests.unit.chat.ring import ChatRing, Client, N, mid, simulated

from coterie_protocol.client_api import Send, Stored
from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid

SEEDS = range(4)


class Stream:
    """A client that sends without a pause, and another that receives and acknowledges, both through any trouble."""

    def __init__(self, ring: ChatRing, sender_at: Uid, receiver_at: Uid) -> None:
        self._ring = ring
        self._gateways = {"alice": sender_at, "bob": receiver_at}
        self.acknowledged: list[bytes] = []
        self.times: list[float] = []
        self.shown: list[bytes] = []
        self.progress = asyncio.Event()
        self.stopped = False
        self._tasks: list[asyncio.Task[None]] = []
        self._tokens: dict[str, bytes] = {}

    async def start(self) -> None:
        for name, uid in self._gateways.items():
            client = await self._ring.user(uid, name)
            self._tokens[name] = client.token
            client.leave()
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]

    async def connect(self, name: str) -> Client:
        """Resume at the own gateway or, when it is gone, at another; as a client's library does."""
        while True:
            uid = self._gateways[name]
            if uid not in self._ring.chats or self._ring.world.network.frozen(uid):
                uid = next(uid for uid in self._ring.chats if not self._ring.world.network.frozen(uid))
            self._gateways[name] = uid
            try:
                client = await asyncio.wait_for(self._ring.connect(uid), 3)
                await asyncio.wait_for(client.resume(name, self._tokens[name]), 3)
            except (CoterieError, TimeoutError):
                await asyncio.sleep(0.05)
            else:
                return client

    def _lost(self, client: Client) -> bool:
        return client.process.dead or self._ring.world.network.frozen(client.process.uid)

    async def _send(self) -> None:
        client = await self.connect("alice")
        number = 0
        while not self.stopped:
            number += 1
            while True:
                reply = client.post(Send("bob", mid(number), b"%d" % number))[0]
                while not reply.done() and not self._lost(client):
                    await asyncio.wait([reply], timeout=0.02)
                if reply.done() and isinstance(reply.result(), Stored):
                    break
                if self._lost(client):
                    client = await self.connect("alice")
            self.acknowledged.append(mid(number))
            self.times.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0.01)

    async def _receive(self) -> None:
        while True:
            client = await self.connect("bob")
            work = asyncio.create_task(self._take(client))
            try:
                while not self._lost(client) and not work.done():
                    await asyncio.wait([work], timeout=0.05)
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    async def _take(self, client: Client) -> None:
        try:
            await client.subscribe()
            taken = 0
            while True:
                await client.until(lambda at=taken: len(client.mail) > at, timeout=3600.0)  # type: ignore[misc]
                batch = client.mail[taken : taken + 100]
                taken += len(batch)
                for item in batch:
                    if item.id not in self.shown:
                        self.shown.append(item.id)
                self.progress.set()
                await client.archive(*batch)
        except CoterieError:
            pass

    async def finish(self) -> None:
        """Stop sending, wait until everything acknowledged was shown, and stop."""
        self.stopped = True
        await self._tasks[0]
        async with asyncio.timeout(60):
            while not set(self.acknowledged) <= set(self.shown):
                self.progress.clear()
                await self.progress.wait()
        self._tasks[1].cancel()
        await asyncio.gather(self._tasks[1], return_exceptions=True)

    def longest_pause(self) -> float:
        return max(after - before for before, after in zip(self.times, self.times[1:], strict=False))


def _victim(ring: ChatRing, which: str, stream_at: tuple[Uid, Uid]) -> Uid:
    if which == "owner":
        return ring.owner("bob")
    return stream_at[0] if which == "sender's gateway" else stream_at[1]


@pytest.mark.parametrize("which", ["owner", "sender's gateway", "recipient's gateway"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_node_costs_a_moment_and_no_message(which: str, seed: int) -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            at = (N[seed % 5], N[(seed + 2) % 5])
            stream = Stream(ring, *at)
            await stream.start()
            await asyncio.sleep(1.0)
            victim = _victim(ring, which, at)
            await ring.crash(victim)
            await asyncio.sleep(3.0)
            await ring.start(victim)
            await asyncio.sleep(3.0)
            await stream.finish()
            assert stream.longest_pause() < 1.0
            assert len(stream.acknowledged) > 150

    simulated(story, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_frozen_owner_is_passed_over_and_may_come_back(seed: int) -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            owner = ring.owner("bob")
            others = [uid for uid in N if uid != owner]
            stream = Stream(ring, others[0], others[1])
            await stream.start()
            await asyncio.sleep(1.0)
            ring.world.network.freeze(owner)
            await asyncio.sleep(4.0)
            ring.world.network.thaw(owner)
            await asyncio.sleep(4.0)
            await stream.finish()
            assert stream.longest_pause() < 2.5

    simulated(story, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_node_is_killed_in_turn_in_a_bad_network(seed: int) -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            ring.world.network.weather = Weather(delay=(0.0001, 0.02), late=0.002)
            stream = Stream(ring, N[1], N[2])
            await stream.start()
            for uid in N:
                await asyncio.sleep(1.0)
                await ring.crash(uid)
                await asyncio.sleep(2.0)
                await ring.start(uid)
                await asyncio.sleep(2.0)
            await stream.finish()

    simulated(story, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_all_nodes_killed_at_once_lose_nothing(seed: int) -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice = await ring.user(N[0], "alice")
            bob = await ring.user(N[1], "bob")
            for number in range(20):
                await alice.send("bob", number)
            for uid in N:
                await ring.crash(uid)
            await asyncio.sleep(1.0)
            for uid in N:
                await ring.start(uid)
            started = asyncio.get_running_loop().time()
            stream = Stream(ring, N[0], N[1])
            stream._tokens = {"alice": alice.token, "bob": bob.token}
            again = await stream.connect("bob")
            await again.subscribe()
            await again.until_drained()
            assert asyncio.get_running_loop().time() - started < 5.0
            assert [item.id for item in again.mail] == [mid(number) for number in range(20)]

    simulated(story, seed)


def test_a_new_node_that_takes_a_slot_over_gets_the_sessions() -> None:
    """The owner changes by configuration while everybody lives: gateways follow, and mail goes on at once."""

    async def story() -> None:
        async with ChatRing(nodes=4) as ring:
            users = {}
            for number in range(40):
                name = f"user{number}"
                client = await ring.user(N[number % 4], name)
                await client.subscribe()
                await client.until_drained()
                users[name] = client
            before = {name: ring.owner(name) for name in users}
            await ring.start(N[4])
            await asyncio.sleep(6.0)
            moved = [name for name in users if ring.owner(name) != before[name]]
            assert moved
            sender = await ring.user(N[0], "alice")
            for number, name in enumerate(users):
                await sender.send(name, number)
                await users[name].until(lambda name=name: bool(users[name].mail), timeout=1.0)  # type: ignore[misc]

    simulated(story)


def test_a_slow_client_gets_everything_once_it_reads_again() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice = await ring.user(N[0], "alice")
            bob = await ring.user(N[1], "bob")
            await bob.subscribe()
            await bob.until_drained()
            bob.slow = True
            for number in range(10):
                await alice.send("bob", number)
            assert not bob.mail
            bob.slow = False
            bob.process.context.copy().run(bob.conversation.ready_for_mail)
            await bob.until(lambda: len(bob.got()) == 10)

    simulated(story)
