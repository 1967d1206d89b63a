"""`python -m tests.mutate`: how fine the meshes of the tests are, by changing the code at random."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.mutate.campaign import Broken, Campaign, Outcome, draw, rooms_of, watch
from tests.mutate.rooms import ROOMS

EXAMPLES = """\
examples:
  python -m tests.mutate
      300 mutants of all rooms, drawn by seed 1: about an hour on two cores
  python -m tests.mutate --room store --mutants 40 --seed 7
  python -m tests.mutate --results mutants.jsonl
      what the file knows of the same code and tests is not tried again, so a run that was ended goes on

A mutant that survives is no fault by itself: it may change nothing that can be seen, or only what is logged. One that
breaks a promise wants a test.

Exit codes: 0 done, 1 the tests fail without any change, 2 usage, 130 Ctrl-C (what was found out is kept).
"""


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutate",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [room.name for room in ROOMS]
    parser.add_argument("--mutants", type=int, default=300, metavar="N", help="how many (default 300)")
    parser.add_argument("--seed", type=int, default=1, help="which (default 1)")
    parser.add_argument("--room", action="append", choices=names, default=[], help="only of this one; may be repeated")
    parser.add_argument("--walks", type=int, default=20, metavar="N", help="seeds of the simulation (default 20)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--results", type=Path, help="where each result is kept (default: failed/mutants-SEED.jsonl)")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end instead of text")
    options = parser.parse_args()
    if min(options.mutants, options.jobs) < 1 or options.walks < 0:
        parser.error("--mutants and --jobs take a number from 1, --walks one from 0")
    results = options.results or Path("failed") / f"mutants-{options.seed}.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw(rooms_of(options.room), options.mutants, options.seed)
    outcomes: list[Outcome] = []
    try:
        seen = {}
        for room in {one.room.name: one.room for one in drawn}.values():
            _tell(f"{room.name}: running its tests without a change")
            seen[room.name] = watch(room)
        begun = time.monotonic()
        for outcome in Campaign(results, options.jobs, options.walks).run(drawn, seen):
            outcomes.append(outcome)
            rest = (time.monotonic() - begun) / len(outcomes) * (len(drawn) - len(outcomes))
            left = f"some {rest / 60:.0f} min left"
            _tell(f"{len(outcomes)} of {len(drawn)}, {left}: {outcome.verdict:10}{outcome.mutant}")
    except Broken as broken:
        print(broken, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _tell(f"ended; {results} knows what was found out")
        return 130
    print(_as_json(outcomes, options.seed) if options.json else _table(outcomes))
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _table(outcomes: Sequence[Outcome]) -> str:
    rows = [f"{'room':14}{'mutants':>8}{'by units':>10}{'simulation':>12}{'timeout':>9}{'survived':>10}{'killed':>8}"]
    for name in (*(room.name for room in ROOMS), "all"):
        of = [outcome for outcome in outcomes if name in (outcome.room, "all")]
        if not of:
            continue
        count = {verdict: sum(one.verdict == verdict for one in of) for verdict in ("killed", "simulated", "timeout")}
        lives = sum(one.lives for one in of)
        rate = f"{100 * (len(of) - lives) / len(of):.0f} %"
        rows.append(
            f"{name:14}{len(of):8}{count['killed']:10}{count['simulated']:12}{count['timeout']:9}{lives:10}{rate:>8}"
        )
    survivors = sorted((one for one in outcomes if one.lives), key=lambda one: (one.mutant.path, one.mutant.line))
    rows += ["", "survivors:" if survivors else "no survivors"]
    rows += [f"  {one.mutant}" + ("" if one.tests else "   (no unit test runs it)") for one in survivors]
    return "\n".join(rows)


def _as_json(outcomes: Sequence[Outcome], seed: int) -> str:
    killed = sum(not one.lives for one in outcomes)
    return json.dumps({"seed": seed, "mutants": len(outcomes), "killed": killed, "outcomes": [*map(asdict, outcomes)]})


if __name__ == "__main__":
    sys.exit(main())
