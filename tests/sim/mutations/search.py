"""Let the random walks look for each mutation: `python -m tests.sim.mutations [--seeds 500] [--only NAME] [--json]`.

Exit code 0: each was caught; 1: one was not.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from tests.sim.aged import aged
from tests.sim.estranged import estranged
from tests.sim.inbox import inbox
from tests.sim.loop import run
from tests.sim.mutations import rules
from tests.sim.mutations.rules import Mutation
from tests.sim.siege import siege
from tests.sim.storm import storm
from tests.sim.walk import people, walk

Schedule = Callable[[], Coroutine[Any, Any, Any]]
SCHEDULES: dict[str, Schedule] = {
    "walk": walk,
    "people": people,
    "storm": storm,
    "siege": siege,
    "inbox": inbox,
    "aged": aged,
    "estranged": estranged,
}


@dataclass(frozen=True)
class Mutant:
    """A mutation, and the schedule that looks for it."""

    mutation: Mutation
    schedule: str

    @property
    def name(self) -> str:
        """Return its name on the command line."""
        return self.mutation.__name__.replace("_", "-")


MUTANTS = (
    Mutant(rules.promised_by_the_new_is_enough, "siege"),
    Mutant(rules.plain_follows_any_joint, "siege"),
    Mutant(rules.sync_is_skipped, "siege"),
    Mutant(rules.found_plain_is_chosen, "siege"),
    Mutant(rules.joint_is_replaced, "storm"),
    Mutant(rules.unknown_is_empty, "storm"),
    Mutant(rules.removed_member_forgets, "walk"),
    Mutant(rules.healed_by_anything, "siege"),
    Mutant(rules.register_quorum_of_one, "storm"),
    Mutant(rules.epoch_is_a_number, "siege"),
    Mutant(rules.accept_unfenced, "siege"),
    Mutant(rules.ballots_without_epoch, "siege"),
    Mutant(rules.list_unfenced, "siege"),
    Mutant(rules.reads_need_no_agreement, "siege"),
    Mutant(rules.append_quorum_of_one, "walk"),
    Mutant(rules.give_up_by_slot, "walk"),
    Mutant(rules.held_before_fsync, "walk"),
    Mutant(rules.answered_before_fsync, "siege"),
    Mutant(rules.fsync_lies, "siege"),
    Mutant(rules.tombstone_dropped, "aged"),
    Mutant(rules.who_is_back_is_not_asked, "estranged"),
    Mutant(rules.dedupe_left_out, "inbox"),
    Mutant(rules.shown_is_forgotten, "inbox"),
    Mutant(rules.order_left_out, "inbox"),
)


@dataclass
class Result:
    """What became of the search for a mutant."""

    name: str
    schedule: str
    taken: int = 0
    caught: list[int] = field(default_factory=list)
    checks: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def caught_by(mutant: Mutant, seed: int) -> str | None:
    """Take a schedule with a mutation planted; return which check caught it, None if it passed."""
    asyncio_log = logging.getLogger("asyncio")
    asyncio_log.disabled = True  # Of many tasks that fail, one is heard.
    with mutant.mutation():
        try:
            run(SCHEDULES[mutant.schedule](), seed)
        except AssertionError as error:
            return str(error).splitlines()[0] if str(error) else type(error).__name__
        finally:
            gc.collect()
            asyncio_log.disabled = False
    return None


def search(mutant: Mutant, seeds: int, share: int, schedule: str | None = None) -> Result:
    """Take the first `share` seeds, and then more of them, `seeds` at most, until one has caught it."""
    if schedule is not None:
        mutant = Mutant(mutant.mutation, schedule)
    result = Result(mutant.name, mutant.schedule)
    began = time.monotonic()
    for seed in range(seeds):
        if seed >= share and result.caught:
            break
        result.taken += 1
        check = caught_by(mutant, seed)
        if check is not None:
            result.caught.append(seed)
            result.checks[check] += 1
    result.seconds = time.monotonic() - began
    return result


def main(arguments: list[str] | None = None) -> int:
    """Search, and return 1 if one was not caught."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim.mutations",
        description="Plant one wrong rule after the other and let random schedules look for it.",
        epilog="example: python -m tests.sim.mutations --only list-unfenced --seeds 500",
    )
    parser.add_argument("--seeds", type=int, default=500, help="seeds at most for each (default 500)")
    parser.add_argument("--share", type=int, default=50, help="seeds that are taken in any case (default 50)")
    parser.add_argument("--only", action="append", help="only this mutation (may be repeated)")
    parser.add_argument("--schedule", choices=sorted(SCHEDULES), help="another schedule than its own")
    parser.add_argument("--json", action="store_true", help="one JSON object for each")
    options = parser.parse_args(arguments)
    names = {mutant.name for mutant in MUTANTS}
    if unknown := set(options.only or ()) - names:
        parser.error(f"no such mutation: {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}")
    missed = 0
    for mutant in MUTANTS:
        if options.only and mutant.name not in options.only:
            continue
        result = search(mutant, options.seeds, options.share, options.schedule)
        missed += not result.caught
        first = result.caught[0] if result.caught else None
        check = result.checks.most_common(1)[0][0] if result.checks else None
        if options.json:
            print(
                json.dumps(
                    {
                        "name": result.name,
                        "schedule": result.schedule,
                        "seeds": result.taken,
                        "first": first,
                        "caught": len(result.caught),
                        "check": check,
                        "seconds": round(result.seconds, 1),
                    }
                ),
                flush=True,
            )
            continue
        print(
            f"{result.name:30} {result.schedule:6} first seed {first if first is not None else '-':>4} "
            f"{len(result.caught):4} of {result.taken:4}  {result.seconds:5.0f} s  {check or 'not caught'}",
            flush=True,
        )
    return 1 if missed else 0
