"""A poisoned record, frame or caller among good ones: the others get what is theirs, and the bad one is named."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.unit.replication.nodes import SLOT, A, B, C, D, Nodes, equal, known, message, simulated, until

from coterie_node.replication.commits import Arrivals
from coterie_node.replication.configuration import SlotTable
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record
from coterie_protocol.replication import FetchRecords, Offer, RecordsPage, Replicate, Replicated

Outcome = tuple[list[bytes], ErrorCode | None]


def poisoned(number: int, **changes: Any) -> Record:
    return msgspec.structs.replace(message(number), **(changes or {"part": 1 << 63}))


def ids(*numbers: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in numbers]


def _note(answers: list[tuple[Uid, Replicated]], to: Uid, _: Uid, told: Replicated) -> None:
    answers.append((to, told))


class Outcomes:
    """What callers of append were told."""

    def __init__(self) -> None:
        self.told: list[Outcome] = []

    def __call__(self, part: Sequence[Record], _: int, error: CoterieError | None) -> None:
        self.told.append(([record.id for record in part], None if error is None else error.wire_code))

    def of(self, code: ErrorCode | None) -> list[bytes]:
        return sorted(one for told, said in self.told if said is code for one in told)


@simulated
async def test_one_account_does_not_spoil_everybodys_append() -> None:
    async with Nodes(A, B, C) as nodes:
        await nodes.configure(known(1, (A, B, C)))
        done = Outcomes()
        with capture_logs() as logs:
            for record in (message(1), poisoned(2), message(3), poisoned(4, epoch=1 << 70), message(5)):
                nodes[A].appender.append((record,), done)
            await until(lambda: len(done.told) >= 5)
        assert done.of(None) == ids(1, 3, 5)
        assert done.of(ErrorCode.BAD_REQUEST) == ids(2, 4)
        left_out = [entry for entry in logs if "cannot be stored" in entry["event"]]
        assert {entry["id"] for entry in left_out} >= {one.hex() for one in ids(2, 4)}
        await equal(nodes[uid] for uid in (A, B, C))
        assert len(await nodes[C].held()) == 3
        nodes[A].appender.append((message(6),), done)
        await until(lambda: ids(6)[0] in done.of(None))


@simulated
async def test_one_poisoned_record_of_a_call_leaves_the_others_of_the_call_stored() -> None:
    async with Nodes(A, B, C) as nodes:
        await nodes.configure(known(1, (A, B, C)))
        done = Outcomes()
        nodes[A].appender.append([message(1), poisoned(2, owner="\ud800"), message(3)], done)
        await until(lambda: sum(len(told) for told, _ in done.told) == 3)
        assert (done.of(None), done.of(ErrorCode.BAD_REQUEST)) == (ids(1, 3), ids(2))


@simulated
async def test_a_caller_that_fails_keeps_no_other_from_its_answer() -> None:
    async with Nodes(A, B, C) as nodes:
        await nodes.configure(known(1, (A, B, C)))
        done = Outcomes()

        def failing(*_: object) -> None:
            raise ZeroDivisionError

        elsewhere = msgspec.structs.replace(message(2), slot=7)  # Of a slot that nobody knows: answered at once.
        for one in (message(1), elsewhere, message(3)):
            nodes[A].appender.append((one,), failing if one.id == ids(2)[0] else done)
        await until(lambda: done.of(None) == ids(1, 3))


@simulated
async def test_a_poisoned_record_is_held_by_nobody_and_those_beside_it_are() -> None:
    """Frames of three coordinators in one turn: the one with a poisoned record hears no, whatever else is in it."""
    async with Nodes(A, B, C, D, loops=False) as nodes:
        answers: list[tuple[Uid, Replicated]] = []
        for uid in (A, B, C):
            nodes[uid].dispatcher.on_event(Replicated, partial(_note, answers, uid))
        frames = [(A, [message(1)]), (B, [message(2), poisoned(3), message(4)]), (C, [message(5)])]
        with capture_logs() as logs:
            for uid, records in frames:
                nodes[D].dispatcher.event(uid, Replicate(7, records))
            await until(lambda: len(answers) == 3)
        assert {uid: told.ok for uid, told in answers} == {A: True, B: False, C: True}
        assert {key[3] for key in await nodes[D].held()} == set(ids(1, 2, 4, 5))
        assert any(entry.get("id") == ids(3)[0].hex() and entry["source"] == B for entry in logs)
        nodes[D].dispatcher.event(A, Replicate(8, [message(6)]))
        await until(lambda: len(answers) == 4)
        assert answers[-1][1].ok


@simulated
async def test_a_page_with_a_poisoned_record_brings_the_others() -> None:
    async with Nodes(A, B, loops=False) as nodes:
        await nodes.configure(known(1, (A, B)))
        await nodes[B].put(*map(message, range(1, 6)))

        async def page(_: Uid, asked: FetchRecords) -> RecordsPage:
            numbers = [int.from_bytes(version.id, "big") for version in asked.versions]
            return RecordsPage([poisoned(one) if one == 3 else message(one) for one in numbers], False)

        nodes[B].dispatcher.on_request(FetchRecords, page)
        with capture_logs() as logs:
            await nodes[A].repair.pull(SLOT, B)
        assert {key[3] for key in await nodes[A].held()} == set(ids(1, 2, 4, 5))
        assert any(entry.get("id") == ids(3)[0].hex() for entry in logs)


@simulated
async def test_an_offer_with_a_poisoned_record_is_refused_and_the_others_are_kept() -> None:
    async with Nodes(A, B, loops=False) as nodes:
        with pytest.raises(CoterieError) as refused:
            await nodes[A].peers.request(B, Offer(SLOT, [message(1), poisoned(2), message(3)]), 5.0)
        assert refused.value.wire_code is ErrorCode.BAD_REQUEST
        assert {key[3] for key in await nodes[B].held()} == set(ids(1, 3))


@simulated
async def test_a_stray_that_a_member_refuses_keeps_no_other_from_being_given_up() -> None:
    async with Nodes(A, B, C, D) as nodes:
        await nodes.configure(known(1, (A, B, C)))
        take = nodes[B].offers._take

        async def picky(sender: Uid, offer: Offer) -> Any:
            if ids(7)[0] in {*(one.id for one in offer.records), *(one.id for one in offer.claims)}:
                raise CoterieError("not this one", code=ErrorCode.BAD_REQUEST)
            return await take(sender, offer)

        nodes[B].dispatcher.on_request(Offer, picky)
        with capture_logs() as logs:
            await nodes[D].hold(*map(message, range(1, 21)))
            nodes[D].table.learn((known(1, (A, B, C)),))
            await until(lambda: nodes[D].strays.given_up >= 19)
        assert {key[3] for key in await nodes[D].held()} == set(ids(7)), "it stays, for a member does not have it"
        assert any(entry.get("id") == ids(7)[0].hex() and entry["to"] == B for entry in logs)
        assert len(await nodes[A].held()) >= 19


@simulated
async def test_a_push_goes_on_without_a_record_that_the_other_refuses() -> None:
    async with Nodes(A, B, loops=False) as nodes:
        take = nodes[B].offers._take

        async def picky(sender: Uid, offer: Offer) -> Any:
            if ids(7)[0] in {*(one.id for one in offer.records), *(one.id for one in offer.claims)}:
                raise CoterieError("not this one", code=ErrorCode.TOO_LARGE)
            return await take(sender, offer)

        nodes[B].dispatcher.on_request(Offer, picky)
        await nodes[A].put(*map(message, range(1, 21)))
        await nodes[A].repair.push(SLOT, B)
        assert {key[3] for key in await nodes[B].held()} == set(ids(*range(1, 21))) - set(ids(7))


def test_a_watcher_that_fails_hides_nothing_from_the_others() -> None:
    heard: list[object] = []

    def failing(*_: object) -> None:
        raise ZeroDivisionError

    arrivals = Arrivals()
    for watcher in (heard.append, failing, heard.append):
        arrivals.watch(watcher)
    with capture_logs() as logs:
        arrivals.publish([message(1)])
    assert len(heard) == 2
    assert "failing" in logs[0]["watcher"]


@simulated
async def test_a_watcher_of_configurations_that_fails_hides_nothing_from_the_others() -> None:
    async with Nodes(A, B, loops=False) as nodes:
        table: SlotTable = nodes[A].table
        heard: list[int] = []

        def failing(*_: object) -> None:
            raise ZeroDivisionError

        table.watch(failing)
        table.watch(lambda slot, _: heard.append(slot))
        with capture_logs():
            table.learn([known(1, (A, B)), known(1, (A, B), slot=4)])
        await asyncio.sleep(0)
        assert heard == [SLOT, 4]
