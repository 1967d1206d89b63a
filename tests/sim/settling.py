"""How a world comes to rest: the settings with which that is quick, and the wait for it."""

from __future__ import annotations

import asyncio

from tests.sim.invariants import Violation
from tests.sim.loop import sim_loop
from tests.sim.world import World

from coterie_node.replication.settings import ReplicationSettings

SETTINGS = ReplicationSettings(
    round_timeout=0.5,
    account_timeout=2.0,
    settle=0.2,
    confirm_after=0.5,
    gossip_interval=1.0,
    replace_after=2.0,
    append_timeout=2.0,
    standin_after=0.3,
    repair_interval=2.0,
    settled_ms=500,
    offer_retry=0.5,
    offer_page=4,
)


async def whole(world: World, seconds: float) -> float:
    """Wait until every slot is whole and everything is where it belongs; return how long that took.

    Raises the Violation that still holds when the time is over.
    """
    begun = sim_loop().time()
    while True:
        try:
            strict = sim_loop().time() - begun > seconds
            world.witness.quiescent(world.slots, world.live(), strict=strict)
            holding = {uid: left for uid, one in world.processes.items() if (left := one.strays.remaining()) != (0, 0)}
            assert not strict or not holding, f"still held for others: {holding}"
            if not holding:
                return sim_loop().time() - begun
        except Violation:
            if world.witness.broken is not None:
                raise
        await asyncio.sleep(0.25)
