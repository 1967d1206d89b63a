"""Random walks: everything that can go wrong does, in an order that the seed decides, and then the storm ends.

The witness checks every step. Afterwards the world must become whole by itself, with everything acknowledged in it.
"""

from __future__ import annotations

from tests.sim.draw import NAMES, draw_people, draw_replication
from tests.sim.loop import sim_loop
from tests.sim.settling import SETTINGS, whole
from tests.sim.stage import perform
from tests.sim.world import World

__all__ = ["NAMES", "SETTINGS", "people", "walk", "whole"]


async def walk(steps: int = 60) -> World:
    """Take a random walk over replication alone, in a random climate."""
    return await perform(draw_replication(sim_loop().seed, steps))


async def people(steps: int = 60) -> World:
    """Take one over nodes that chat, with people."""
    return await perform(draw_people(sim_loop().seed, steps))
