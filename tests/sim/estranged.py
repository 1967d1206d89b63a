"""A member is cut off with a stand-in, takes messages, and is replaced; both come back with much to hand over.

What the recipient is shown then has to be in order, however long that takes: whoever acts for the mailbox by then has
to ask the two before it calls a drain certain.
"""

from __future__ import annotations

import random

from tests.sim.loop import sim_loop
from tests.sim.plan import Plan
from tests.sim.stage import perform
from tests.sim.wire import Weather
from tests.sim.world import World


def draw_estranged(seed: int) -> Plan:
    """Draw how many messages, in which time, and how slowly they are handed over."""
    rng = random.Random(f"estranged {seed}")
    others = rng.choice((("n2", "n3", "n5"), ("n2", "n3", "n5", "n6")))
    new = " ".join(others[:3])
    steps = [
        f"start {len(others) + 2}",
        "suggest all 0 n1 n2 n3",
        "whole 30s",
        "register ann n1",
        f"register bob {rng.choice(('n1', 'n2', others[-1]))}",
        "tick 2s",
        "send ann bob 1",
        "tick 1s",
        f"partition n1 n4 | {' '.join(others)}",
    ]
    for _ in range(rng.randint(2, 6)):
        steps += [f"send ann bob {rng.choice((1, 2, 5))}", f"tick {rng.uniform(0.0, 1.5):.3f}s"]
    steps += [f"suggest {name} 0 {new}" for name in others]
    steps += [
        f"propose n2 0 carry {new}",
        f"tick {rng.choice((3, 10, 30))}s",
        f"suggest all 0 {new}",
        "heal",
        f"tick {rng.uniform(0.0, 8.0):.3f}s",
        f"roam bob {rng.choice(others)}",
        f"send ann bob {rng.randint(1, 3)}",
        f"tick {rng.uniform(5.0, 30.0):.3f}s",
    ]
    weather = Weather(delay=(0.0001, 0.01), backlog=rng.choice((5.0, 20.0, 60.0)), streams=True)
    return Plan(seed=seed, weather=weather, steps=tuple(steps))


async def estranged() -> World:
    """Perform such a plan."""
    return await perform(draw_estranged(sim_loop().seed))
