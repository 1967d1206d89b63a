"""One hostile account at full speed beside honest ones: nothing of theirs is lost, refused or late; memory is bounded.

A short run of `python -m bench.hostile`, whose ratios docs/guarantees.md gives; here only what
must hold on any machine.
"""

from __future__ import annotations

import pytest
from bench.floods import FLOODS
from bench.hostile import ENVIRONMENT, measure
from tests.cluster.conftest import MakeRing

BOUND = 400.0
"""MiB resident of a node (docs/operations.md, "Limits")."""
LATE = 5000.0
"""Milliseconds after which a message is late."""


@pytest.mark.timeout(120)
async def test_honest_accounts_lose_nothing_beside_a_hostile_one(make_ring: MakeRing) -> None:
    ring = make_ring(3, **ENVIRONMENT)
    ring.start()
    await ring.ready()
    urls, pids = [node.url for node in ring.nodes], [node.pid for node in ring.nodes]
    rows = await measure(urls, pids, FLOODS, count=4, per_second=10.0, seconds=1.0, compared=False)
    for kind in FLOODS:
        row = rows[kind]
        print(f"{kind}: {row}")
        assert row.messages == 4 * 10, kind
        assert (row.lost, row.refused) == (0, 0), kind
        assert row.worst < LATE, kind
        assert row.memory < BOUND, kind
    assert all(node.running for node in ring.nodes)
