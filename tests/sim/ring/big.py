"""A large ring under churn: one run, and its figures."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tests.sim.ring.churn import Churn, Lookups
from tests.sim.ring.perfect import perfect
from tests.sim.ring.simulator import Network, Simulator

from coterie_node.ring import PRESETS

STABLE_LOOKUPS = 200


@dataclass(frozen=True)
class Figures:
    """What came of a run. Seconds are simulated ones, unless the name says otherwise."""

    nodes: int
    slots: int
    seed: int
    loss: float
    churn: float
    """Crashes, joins, leaves and moves a second among a thousand nodes."""
    seconds: float
    """How long there was churn."""
    node_seconds_per_cpu_second: float
    node_seconds_per_wall_second: float
    events: int
    """Of the simulation, during churn."""
    crashes: int
    returns: int
    joins: int
    leaves: int
    moves: int
    moves_refused: int
    isolated: int
    """Nodes that lost every successor although their network lived on."""
    lookups_stable: int
    """Before the churn and after it, when the ring is ideal again. All have found the right owner."""
    hops_mean: float
    hops_max: int
    hops_expected: float
    """Half the binary logarithm of the number of nodes."""
    lookups_churn: int
    lookups_churn_right: float
    """The share that found the node which owned the slot when the answer was there."""
    lookups_churn_unanswered: int
    hops_churn_mean: float
    seconds_to_ideal: float
    """From the end of the churn (all that had crashed start at that moment) to perfect pointers everywhere."""

    def text(self) -> str:
        """Return the figures for people."""
        return f"""\
{self.nodes} nodes, {self.slots} slots, seed {self.seed}, loss {self.loss:.1%}, churn {self.churn / 10:.2f} % a second
speed     {self.node_seconds_per_wall_second:.0f} simulated node-seconds a second \
({self.node_seconds_per_cpu_second:.0f} a second of CPU), {self.events} events in {self.seconds:.0f} s
churn     {self.crashes} crashes, {self.returns} returns, {self.joins} joins, {self.leaves} leaves, \
{self.moves} moves ({self.moves_refused} refused), {self.isolated} lost all successors
stable    {self.lookups_stable} lookups, 0 wrong; hops {self.hops_mean:.2f} mean, {self.hops_max} max; \
0.5 log2 N = {self.hops_expected:.2f}
churning  {self.lookups_churn} lookups, {self.lookups_churn_right:.2%} right, {self.lookups_churn_unanswered} \
unanswered; hops {self.hops_churn_mean:.2f} mean
healed    an ideal ring {self.seconds_to_ideal:.1f} s after the churn"""

    def json(self) -> dict[str, Any]:
        """Return the figures for programs."""
        return asdict(self)


def big(
    nodes: int,
    seconds: float,
    seed: int,
    churn: float = 5.0,
    loss: float = 0.01,
    progress: Callable[[str], None] = lambda line: None,
) -> Figures:
    """Run a ring that begins perfect; raise AssertionError when anything is not as it must be."""
    # Ten to fifteen slots a node.
    slots = 1 << (10 * nodes - 1).bit_length()
    world = perfect(seed, PRESETS["cluster"], nodes, slots, Network(0.001, 0.02, loss=loss))
    assert world.invariant is not None
    assert world.ideal(), f"seed {seed}: the ring does not begin perfect"
    # What lives as long as the run need not be looked through for garbage again and again.
    gc.collect()
    gc.freeze()
    try:
        driver = Churn(world, churn)
        stable = Lookups(world)
        _look_up(world, stable)
        progress(f"begun: {stable.right} lookups, {len(stable.wrong)} wrong")
        steps, wall, cpu = world.steps, time.monotonic(), time.process_time()

        def second(done: float) -> None:
            speed = done * nodes / (time.monotonic() - wall)
            bare = done * nodes / (time.process_time() - cpu)
            progress(
                f"{done:.0f} s of {seconds:.0f}: {speed:.0f} node-seconds a second ({bare:.0f} of CPU), "
                f"{world.steps - steps} events, {len(driver.running)} nodes"
            )

        driver.run(seconds, second)
        wall, cpu, steps = time.monotonic() - wall, time.process_time() - cpu, world.steps - steps
        healed = driver.settle(lambda passed: progress(f"left alone for {passed:.0f} s"))
        _look_up(world, stable)
    finally:
        gc.unfreeze()
    assert not stable.wrong, f"seed {seed}: {stable.wrong[0]}"
    assert not stable.unanswered, f"seed {seed}: {stable.unanswered} lookups in a stable ring were not answered"
    meanwhile, counts = driver.lookups, driver.counts
    return Figures(
        nodes,
        slots,
        seed,
        loss,
        churn,
        seconds,
        round(nodes * seconds / cpu, 1),
        round(nodes * seconds / wall, 1),
        steps,
        counts["crash"],
        counts["return"],
        counts["join"],
        counts["leave"],
        counts["move"],
        driver.refused.total(),
        world.invariant.isolated,
        stable.right,
        round(sum(stable.hops) / len(stable.hops), 3),
        max(stable.hops),
        round(0.5 * math.log2(nodes), 3),
        meanwhile.ended,
        round(meanwhile.right / max(1, meanwhile.ended), 5),
        meanwhile.unanswered,
        round(sum(meanwhile.hops) / max(1, len(meanwhile.hops)), 3),
        round(healed, 3),
    )


def _look_up(world: Simulator, lookups: Lookups) -> None:
    """Look slots up from all over the ring at once, and wait for the answers."""
    nodes = world.live()
    before = lookups.ended
    for _ in range(STABLE_LOOKUPS):
        lookups.start(world.rng.choice(nodes))
    world.run_until(lambda: lookups.ended == before + STABLE_LOOKUPS, 10, every=0.1)
