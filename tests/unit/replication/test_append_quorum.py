"""An append is acknowledged when a majority of K distinct nodes have it on disk: members first, then stand-ins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.sim.loop import sim_loop
from tests.sim.wire import message as matching
from tests.unit.replication.nodes import (
    SLOT,
    A,
    B,
    C,
    D,
    E,
    Nodes,
    known,
    message,
    moved,
    patient,
    simulated,
    until,
)

from coterie_protocol.errors import CoterieError, ErrorCode, Unavailable
from coterie_protocol.records import Record, State
from coterie_protocol.replication import Replicate, Replicated

P = known(3, (A, B, C))


class Outcome:
    """Collects what `done` is told."""

    def __init__(self) -> None:
        self.parts: list[tuple[list[Record], int, CoterieError | None]] = []

    def __call__(self, records: Sequence[Record], copies: int, error: CoterieError | None) -> None:
        self.parts.append((list(records), copies, error))


@simulated
async def test_an_append_reaches_every_member() -> None:
    async with Nodes(A, B, C) as nodes:
        await nodes.configure(P)
        record = message(1)
        assert await nodes[A].appender.append_one(record) >= 2
        await asyncio.sleep(0.1)
        for uid in (A, B, C):
            assert await nodes[uid].has(record)
            assert nodes[uid].arrived == [record]


@simulated
async def test_one_dead_member_does_not_delay_an_append() -> None:
    async with Nodes(A, B, C) as nodes:
        await nodes.configure(P)
        await nodes.stop(C)
        await asyncio.sleep(0.1)
        begun = sim_loop().time()
        assert await nodes[A].appender.append_one(message(1)) == 2
        assert sim_loop().time() - begun < 0.05


@simulated
async def test_calls_of_one_turn_share_a_frame_and_a_commit() -> None:
    async with Nodes(A, B, C, loops=False) as nodes:
        await nodes.configure(P)
        outcome = Outcome()
        frames = nodes.network.counts["Replicate"]
        for number in range(100):
            nodes[A].appender.append([message(number)], outcome)
        await until(lambda: len(outcome.parts) == 100)
        assert nodes.network.counts["Replicate"] - frames == 2
        assert all(error is None and copies == 2 for _, copies, error in outcome.parts)
        assert sorted(record.id for records, _, _ in outcome.parts for record in records) == [
            number.to_bytes(16, "big") for number in range(100)
        ]


@simulated
async def test_a_frame_of_appends_is_bounded() -> None:
    async with Nodes(A, B, C, loops=False) as nodes:
        await nodes.configure(P)
        outcome = Outcome()
        records = [message(number, bytes(100_000)) for number in range(9)]
        nodes[A].appender.append(records, outcome)
        await until(lambda: sum(len(part) for part, _, _ in outcome.parts) == 9)
        assert nodes.network.counts["Replicate"] == 2 * 3


@simulated
async def test_parts_are_decided_by_the_members_of_their_slots() -> None:
    async with Nodes(A, B, C, D, E, loops=False) as nodes:
        await nodes.configure(P)
        await nodes.configure(known(3, (A, D, E), slot=4))
        await nodes.stop(D)
        await nodes.stop(E)
        await asyncio.sleep(0.1)
        outcome = Outcome()
        here, there, nowhere = message(1), message(2, slot=4), message(3, slot=5)
        nodes[A].appender.append([here, there, nowhere], outcome)
        await until(lambda: len(outcome.parts) == 3)
        told = {records[0].slot: (copies, error) for records, copies, error in outcome.parts}
        assert told[SLOT] == (2, None)
        assert isinstance(told[4][1], Unavailable)
        assert isinstance(told[5][1], Unavailable)


@simulated
async def test_while_joint_appends_go_to_all() -> None:
    async with Nodes(A, B, C, D, loops=False) as nodes:
        await nodes.configure(known(4, (B, C, D), old=(A, B, C)))
        await nodes[A].appender.append_one(message(1))
        await asyncio.sleep(0.1)
        for uid in (A, B, C, D):
            assert await nodes[uid].has(message(1))


@simulated
async def test_stand_ins_hold_for_dead_members() -> None:
    async with Nodes(A, B, C, D, E, loops=False) as nodes:
        await nodes.configure(P)
        nodes[A].ring.next = [B, C, D, E]
        await nodes.stop(B)
        await nodes.stop(C)
        await asyncio.sleep(0.1)
        assert await nodes[A].appender.append_one(message(1)) >= 2
        await asyncio.sleep(0.1)
        assert await nodes[D].has(message(1))
        assert await nodes[E].has(message(1))


@simulated
async def test_a_member_that_goes_down_is_replaced_at_once() -> None:
    async with Nodes(A, B, C, D, loops=False, settings=patient(standin_after=30.0, append_timeout=60.0)) as nodes:
        await nodes.configure(P)
        await nodes.stop(C)
        await asyncio.sleep(0.1)
        nodes.network.drop(matching(Replicate, to=B))
        work = asyncio.ensure_future(nodes[A].appender.append_one(message(1)))
        await asyncio.sleep(0.5)
        assert not work.done()
        nodes[A].ring.next = [D]
        await nodes.stop(B)
        assert await work == 2
        assert await nodes[D].has(message(1))


@simulated
async def test_a_frozen_replica_is_replaced_after_a_second_though_it_seems_up() -> None:
    async with Nodes(A, B, C, D, loops=False) as nodes:
        await nodes.configure(P)
        await nodes.stop(C)
        await asyncio.sleep(0.1)
        nodes[A].ring.next = [D]
        held = nodes.network.hold(matching(Replicate))
        begun = sim_loop().time()
        work = asyncio.ensure_future(nodes[A].appender.append_one(message(1)))
        await held.caught(2)  # To the silent member, and to the stand-in of the dead one.
        nodes.network.freeze(B)
        held.release()
        assert await work == 2
        assert sim_loop().time() - begun < 0.2
        assert await nodes[D].has(message(1))


@simulated
async def test_silence_gets_a_stand_in_after_a_second() -> None:
    async with Nodes(A, B, C, D, E, loops=False) as nodes:
        await nodes.configure(P)
        nodes[A].ring.next = [D, E]
        nodes.network.drop(matching(Replicated, sender=B))
        nodes.network.drop(matching(Replicated, sender=C))
        begun = sim_loop().time()
        assert await nodes[A].appender.append_one(message(1)) >= 2
        assert 1.0 <= sim_loop().time() - begun < 1.3


@simulated
async def test_a_frozen_replica_takes_what_it_missed_once_it_runs_again() -> None:
    async with Nodes(A, B, C, loops=False) as nodes:
        await nodes.configure(P)
        nodes.network.freeze(B)
        assert await nodes[A].appender.append_one(message(1)) == 2
        nodes.network.thaw(B)
        await asyncio.sleep(0.1)
        assert await nodes[B].has(message(1))


@simulated
async def test_a_minority_says_so() -> None:
    async with Nodes(A, B, C, loops=False) as nodes:
        await nodes.configure(P)
        nodes.network.partition((A,), (B, C))
        await asyncio.sleep(1.5)
        begun = sim_loop().time()
        with pytest.raises(Unavailable, match="1 of 2"):
            await nodes[A].appender.append_one(message(1))
        assert sim_loop().time() - begun < 1.5
        nodes.network.heal()
        await asyncio.sleep(0.5)
        assert await nodes[A].appender.append_one(message(1)) >= 2


@simulated
async def test_what_was_sent_over_a_broken_link_is_sent_again() -> None:
    async with Nodes(A, B, C, loops=False, settings=patient(standin_after=3.0)) as nodes:
        await nodes.configure(P)
        await nodes.stop(C)
        await asyncio.sleep(0.1)
        lost = nodes.network.drop(matching(Replicate, to=B))
        work = asyncio.ensure_future(nodes[A].appender.append_one(message(1)))
        await lost.caught()
        lost.remove()
        nodes[A].peers.lost(B)
        assert await work == 2


@simulated
async def test_a_silent_majority_is_unavailable_in_the_end() -> None:
    async with Nodes(A, B, C, loops=False) as nodes:
        await nodes.configure(P)
        nodes.network.drop(matching(Replicated))
        begun = sim_loop().time()
        with pytest.raises(Unavailable, match="in time"):
            await nodes[A].appender.append_one(message(1))
        assert 5.0 <= sim_loop().time() - begun < 5.5


@simulated
async def test_another_body_under_a_held_id_is_a_duplicate() -> None:
    async with Nodes(A, B, C, loops=False) as nodes:
        await nodes.configure(P)
        await nodes[A].appender.append_one(message(1))
        assert await nodes[A].appender.append_one(message(1, at=5)) >= 2  # The same body, sent again.
        with pytest.raises(CoterieError) as refused:
            await nodes[A].appender.append_one(message(1, b"another"))
        assert refused.value.wire_code is ErrorCode.DUPLICATE_ID
        assert await nodes[A].has(message(1))


@simulated
async def test_only_the_duplicates_of_a_part_are_refused() -> None:
    async with Nodes(A, B, C, loops=False) as nodes:
        await nodes.configure(P)
        await nodes[A].appender.append_one(message(2))
        outcome = Outcome()
        nodes[A].appender.append([message(1), message(2, b"another"), message(3)], outcome)
        nodes[A].appender.append([message(4)], outcome)
        await until(lambda: len(outcome.parts) == 3)
        told = {records[0].id[-1]: (len(records), error and error.wire_code) for records, _, error in outcome.parts}
        assert told == {1: (2, None), 2: (1, ErrorCode.DUPLICATE_ID), 4: (1, None)}


@simulated
async def test_a_message_that_is_archived_already_counts_as_stored() -> None:
    async with Nodes(A, B, C, loops=False) as nodes:
        await nodes.configure(P)
        archived = moved(message(1), State.ARCHIVED, b"mine")
        await nodes[A].appender.append_one(message(1))
        assert await nodes[A].appender.append_one(archived) >= 2
        assert await nodes[A].appender.append_one(message(1, b"another")) >= 2
        await asyncio.sleep(0.1)
        for uid in (A, B, C):
            assert await nodes[uid].has(archived)


@simulated
async def test_two_replicas_suffice_when_the_own_disk_is_full() -> None:
    async with Nodes(A, B, C, loops=False) as nodes:
        await nodes.configure(P)
        nodes[A].disk.full = True
        assert await nodes[A].appender.append_one(message(1)) == 2
        assert not await nodes[A].has(message(1))


@simulated
async def test_a_full_replica_gets_a_stand_in() -> None:
    async with Nodes(A, B, C, D, loops=False) as nodes:
        await nodes.configure(P)
        nodes[A].ring.next = [D]
        nodes[B].disk.full = nodes[C].disk.full = True
        assert await nodes[A].appender.append_one(message(1)) == 2
        assert await nodes[D].has(message(1))


@simulated
async def test_full_disks_everywhere_are_unavailable() -> None:
    async with Nodes(A, B, C, loops=False) as nodes:
        await nodes.configure(P)
        for uid in (A, B, C):
            nodes[uid].disk.full = True
        with pytest.raises(Unavailable):
            await nodes[A].appender.append_one(message(1))


@simulated
async def test_a_coordinator_learns_from_replicas_that_are_no_members() -> None:
    async with Nodes(A, B, C, D, loops=False) as nodes:
        await nodes.configure(P)
        newer = known(5, (A, B, D))
        await nodes[C].take(newer)
        assert nodes[A].table.known(SLOT) == P
        await nodes[A].appender.append_one(message(1))
        await asyncio.sleep(0.1)
        assert nodes[A].table.known(SLOT) == newer


@simulated
async def test_one_node_alone_is_its_own_majority() -> None:
    async with Nodes(A, k=1, loops=False) as nodes:
        await nodes.configure(known(1, (A,)))
        assert await nodes[A].appender.append_one(message(1)) == 1


@simulated
async def test_a_caller_that_fails_does_not_fail_the_others() -> None:
    async with Nodes(A, B, C, loops=False) as nodes:
        await nodes.configure(P)
        outcome = Outcome()

        def broken(*_: object) -> None:
            raise ValueError("broken caller")

        nodes[A].appender.append([message(1)], broken)
        nodes[A].appender.append([message(2)], outcome)
        await until(lambda: len(outcome.parts) == 1)
        assert outcome.parts[0][2] is None
