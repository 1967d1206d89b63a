"""What appends may make a node keep in memory is bounded, whoever is slow."""

from __future__ import annotations

import asyncio

import pytest
from tests.sim.loop import run
from tests.sim.wire import message as matching
from tests.unit.replication.nodes import SLOT, A, B, C, Nodes, equal, known, message, patient, until

from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.replication import Replicate, Replicated
from coterie_protocol.weight import weight_of_record

P = known(3, (A, B, C))
HUNDRED = 100 * weight_of_record(message(100))


@pytest.mark.parametrize("limit", [{"append_records": 100}, {"append_bytes": HUNDRED}], ids=["records", "bytes"])
def test_appends_without_an_answer_are_bounded_and_the_rest_hears_busy(limit: dict[str, int]) -> None:
    run(unanswered(limit))


async def unanswered(limit: dict[str, int]) -> None:
    async with Nodes(A, B, C, loops=False, settings=patient(**limit)) as nodes:
        await nodes.configure(P)
        held = nodes.network.hold(matching(Replicated))
        asking = []
        for number in range(300):
            asking.append(asyncio.ensure_future(nodes[A].appender.append_one(message(number))))
            await asyncio.sleep(0.001)
        refused = [one for one in asking if one.done()]
        assert 190 < len(refused) < 210
        for one in refused:
            error = one.exception()
            assert isinstance(error, CoterieError)
            assert error.wire_code is ErrorCode.BUSY
            assert error.value > 0
        held.release()
        for one in asking:
            if one not in refused:
                assert await one >= 2
        assert await nodes[A].appender.append_one(message(1000)) >= 2


@pytest.mark.parametrize("limit", [{"hold_records": 100}, {"hold_bytes": HUNDRED}], ids=["records", "bytes"])
def test_a_disk_that_is_too_slow_refuses_at_once_and_gets_the_rest_by_repair(limit: dict[str, int]) -> None:
    """The majority is elsewhere, so that the coordinator never waits for the slow one."""
    run(slow_disk(limit))


async def slow_disk(limit: dict[str, int]) -> None:
    async with Nodes(A, B, C, settings=patient(settled_ms=0, **limit)) as nodes:
        await nodes.configure(P)
        usual, nodes[B].disk.fsync = nodes[B].disk.fsync, (20.0, 20.0)
        for number in range(500):
            assert await nodes[A].appender.append_one(message(number)) == 2
        assert nodes.network.counts[Replicate.__name__] >= 1000
        assert len(nodes[B].disk._queue) + len(nodes[B].disk._syncing) <= 101
        nodes[B].disk.fsync = usual
        await until(lambda: not nodes[B].disk._queue)
        await equal((nodes[A], nodes[B], nodes[C]), SLOT)
