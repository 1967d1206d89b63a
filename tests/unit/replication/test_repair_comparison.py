"""Members compare digests, and exchange what differs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from tests.sim.loop import run, sim_loop
from tests.sim.wire import Envelope
from tests.sim.wire import message as matching
from tests.unit.replication.nodes import (
    SLOT,
    A,
    B,
    C,
    Nodes,
    equal,
    known,
    message,
    moved,
    patient,
    simulated,
    until,
)

from coterie_node.replication.antientropy.pages import FRAME_BYTES, fill
from coterie_node.runtime.ports import Tx
from coterie_protocol.errors import Unavailable
from coterie_protocol.records import Record, RecordKey, State, Version, version_of
from coterie_protocol.replication import Offer, SlotDigests
from coterie_protocol.weight import weight_of_record

P = known(3, (A, B, C))
STILL = patient(repair_interval=1e6)


def divergent(rng: random.Random, count: int = 400) -> list[list[Record]]:
    """Make three sets of versions of the same keys, some of which only some have."""
    sets: list[list[Record]] = [[], [], []]
    for number in range(count):
        first = message(number, rng.randbytes(rng.randrange(300)))
        versions = [
            first,
            moved(first, State.ARCHIVED, b"mine"),
            moved(first, State.EXPIRED),
            moved(first, State.DELETED),
        ]
        for held in sets:
            if rng.random() < 0.7:
                held.append(rng.choice(versions))
    return sets


@pytest.mark.parametrize("seed", range(5))
def test_pull_and_push_converge(seed: int) -> None:
    async def main() -> None:
        async with Nodes(A, B, C, loops=False) as nodes:
            for uid, records in zip((A, B, C), divergent(random.Random(seed)), strict=True):
                await nodes[uid].put(*records)
            repair = nodes[A].repair
            for _ in range(2):
                for uid in (B, C):
                    await repair.pull(SLOT, uid)
                    await repair.push(SLOT, uid)
            held = await nodes[A].held()
            assert await nodes[B].held() == held
            assert await nodes[C].held() == held
            assert len(held) > 300

    run(main(), seed)


@pytest.mark.parametrize("seed", range(3))
def test_members_converge_by_themselves(seed: int) -> None:
    async def main() -> None:
        async with Nodes(A, B, C, settings=STILL) as nodes:
            for uid, records in zip((A, B, C), divergent(random.Random(seed)), strict=True):
                await nodes[uid].put(*records)
            await nodes.configure(P)
            await equal((nodes[uid] for uid in (A, B, C)), seconds=10.0)
            await until(lambda: all(not nodes[uid].repair.under_replicated() for uid in (A, B, C)), 10.0)

    run(main(), seed)


@simulated
async def test_many_and_large_records_are_paged() -> None:
    async with Nodes(A, B, loops=False) as nodes:
        many = [message(number) for number in range(2600)]
        large = [message(number, bytes(50_000), slot=4) for number in range(40)]
        await nodes[A].put(*many, *large)
        await nodes[B].repair.pull(SLOT, A)
        await nodes[A].repair.push(4, B)
        assert await nodes[B].held() == await nodes[A].held()
        assert await nodes[B].held(4) == await nodes[A].held(4)
        assert len(nodes[B].arrived) == 2640


@simulated
async def test_equal_slots_cost_no_listing() -> None:
    async with Nodes(A, B, loops=False) as nodes:
        for uid in (A, B):
            await nodes[uid].put(*(message(number) for number in range(50)))
        await nodes[A].repair.pull(SLOT, B)
        await nodes[A].repair.push(SLOT, B)
        assert nodes.network.counts["ListVersions"] == 0
        assert nodes.network.counts["Offer"] == 0


@simulated
async def test_what_a_node_has_nothing_of_is_not_claimed_first() -> None:
    async with Nodes(A, B, loops=False) as nodes:
        await nodes[A].put(*(message(number) for number in range(100)))
        offers: list[Offer] = []

        def note(envelope: Envelope) -> bool:
            if isinstance(envelope.body, Offer):
                offers.append(envelope.body)
            return False

        nodes.network.drop(note)
        await nodes[A].repair.push(SLOT, B)
        assert await nodes[B].held() == await nodes[A].held()
        assert offers
        assert not any(offer.claims for offer in offers)
        # What differs in part is claimed: only what is lacking travels.
        await nodes[A].put(*(message(number) for number in range(100, 120)))
        offers.clear()
        await nodes[A].repair.push(SLOT, B)
        assert await nodes[B].held() == await nodes[A].held()
        assert any(offer.claims for offer in offers)
        assert sum(len(offer.records) for offer in offers) == 20


@simulated
async def test_small_records_fill_a_frame_and_large_ones_are_not_read_in_vain() -> None:
    async with Nodes(A, loops=False) as nodes:
        small = [message(number, bytes(200)) for number in range(300)]
        large = [message(number, bytes(200_000), slot=4) for number in range(20)]
        await nodes[A].put(*small, *large)
        read: list[int] = []

        def filled(tx: Tx, versions: list[Version]) -> tuple[list[Record], int]:
            whole = tx.records

            def records(keys: Sequence[RecordKey]) -> list[Record | None]:
                read.append(len(keys))
                return whole(keys)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(tx, "records", records)
                return fill(tx, versions)

        for held, most in ((small, 220), (large, 8)):
            read.clear()
            versions = [version_of(record) for record in held]
            records, taken = await nodes[A].disk.read(lambda tx, versions=versions: filled(tx, versions))  # type: ignore[misc]
            assert len(records) == taken >= 1
            assert sum(map(weight_of_record, records)) <= FRAME_BYTES or taken == 1
            assert taken == 1 or sum(map(weight_of_record, records)) > FRAME_BYTES - weight_of_record(held[0])
            assert sum(read) <= most


@simulated
async def test_pull_and_push_from_the_dead_are_unavailable() -> None:
    async with Nodes(A, B, loops=False) as nodes:
        await nodes[A].put(message(1))
        await nodes.stop(B)
        with pytest.raises(Unavailable):
            await nodes[A].repair.pull(SLOT, B)
        with pytest.raises(Unavailable):
            await nodes[A].repair.push(SLOT, B)


@simulated
async def test_a_full_disk_makes_pull_unavailable_on_either_side() -> None:
    async with Nodes(A, B, loops=False) as nodes:
        await nodes[A].put(message(1))
        nodes[B].disk.full = True
        with pytest.raises(Unavailable):
            await nodes[B].repair.pull(SLOT, A)
        with pytest.raises(Unavailable):
            await nodes[A].repair.push(SLOT, B)


@simulated
async def test_what_a_member_missed_while_it_was_down_comes_when_it_is_back() -> None:
    async with Nodes(A, B, C, settings=STILL) as nodes:
        await nodes.configure(P)
        await nodes.stop(C)
        await asyncio.sleep(0.1)
        for number in range(30):
            await nodes[A].appender.append_one(message(number, at=int(sim_loop().time() * 1000)))
        assert nodes[A].repair.under_replicated() == [SLOT]
        node = await nodes.start(C)
        await equal((nodes[A], node), seconds=2.0)
        assert len(node.arrived) == 30


@simulated
async def test_a_record_that_was_lost_comes_back_with_the_next_patrol() -> None:
    """A record that fails its checksum is put aside by the store: it counts as not held."""
    async with Nodes(A, B, C) as nodes:
        await nodes.configure(P)
        for number in range(30):
            await nodes[A].appender.append_one(message(number))
        await asyncio.sleep(0.5)
        versions = await nodes[B].disk.read(lambda tx: tx.versions(SLOT, None, (-1, b""), 3, 1 << 62))
        await nodes[B].disk.transact(lambda tx: tx.give_up(versions))
        await equal((nodes[A], nodes[B]), seconds=12.0)


@simulated
async def test_a_patrol_lets_unsettled_records_be() -> None:
    async with Nodes(A, B, C) as nodes:
        await nodes.configure(P)
        await asyncio.sleep(1.0)
        young = message(1, at=100_000)
        asked = nodes.network.hold(matching(SlotDigests))
        await nodes[A].put(young)
        asked.release()
        before = nodes.network.counts["SlotDigests"]
        await asyncio.sleep(20.0)
        assert nodes.network.counts["SlotDigests"] > before
        assert not await nodes[B].has(young)
        await asyncio.sleep(100.0)
        assert await nodes[B].has(young)
