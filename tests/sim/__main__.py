"""Random walks over simulated rings: `python -m tests.sim --help`. Exit code 0: every promise was kept; 1: one was not.

A walk is drawn from its seed and takes the same steps in every process, so whatever fails can be taken again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.sim.campaign import KINDS, Task, as_json, campaign, keep, tasks
from tests.sim.plan import Plan
from tests.sim.shrink import Shrinker, failure
from tests.sim.story import Story

EXAMPLES = """examples:
  python -m tests.sim --seeds 1000                      replication and people, as many walks as that of each
  python -m tests.sim --seeds 20000 --kind all --minutes 60
  python -m tests.sim --seeds 1 --first 4711 --kind people --shrink
  python -m tests.sim --replay failed/people-4711.txt --shrink
"""
ONE_ORDER = "0"
"""The value of PYTHONHASHSEED under which sets of strings have the same order in every process."""


def main() -> int:
    """Walk, or replay, and return the exit code."""
    options = _parser().parse_args()
    if os.environ.get("PYTHONHASHSEED") != ONE_ORDER:
        arguments = [sys.executable, "-m", "tests.sim", *sys.argv[1:]]
        os.execve(sys.executable, arguments, os.environ | {"PYTHONHASHSEED": ONE_ORDER})
    if options.tell is not None:
        return _tell(options.tell)
    if options.replay is not None:
        return _replay(options.replay, options.shrink)
    kinds = {"default": ("replication", "people"), "all": KINDS}.get(options.kind, (options.kind,))
    if options.storms:
        kinds = ("storm",)
    steps = options.steps
    walks = tasks(kinds, options.first, options.seeds, steps, options.nodes)
    tell = (lambda _: None) if options.json else (lambda line: print(line, flush=True))
    outcome = campaign(
        walks,
        options.seeds * len(kinds),
        jobs=options.jobs,
        minutes=options.minutes,
        tell=tell,
        note=keep(options.keep),
    )
    if options.json:
        print(as_json(outcome))
    else:
        print(f"{outcome.done} walks in {outcome.seconds:.0f} s, {len(outcome.failed)} failed")
    if options.shrink and outcome.failed and (plan := outcome.failed[0][0].plan()) is not None:
        _shrink(plan, outcome.failed[0][0])
    return 1 if outcome.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim",
        description="Random walks over simulated rings.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds (default 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--steps", type=int, default=60, help="steps a walk (default 60)")
    parser.add_argument("--nodes", type=int, default=0, help="nodes at the beginning (default: chance)")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after so long (default: when all are done)")
    parser.add_argument(
        "--kind",
        choices=("default", "all", *KINDS),
        default="default",
        help="what is walked (default: replication and people)",
    )
    parser.add_argument("--storms", action="store_true", help="the same as --kind storm")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--keep", type=Path, default=Path("failed"), help="where plans that fail go (default failed/)")
    parser.add_argument("--shrink", action="store_true", help="cut the first plan that fails down, and print it")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="perform a plan instead")
    parser.add_argument("--tell", type=Path, nargs="+", metavar="FILE", help="play scenarios, and write them anew")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end instead of progress")
    return parser


def _replay(path: Path, shrink: bool) -> int:
    try:
        plan = Plan.read(path.read_text())
    except (OSError, ValueError) as error:
        print(f"{path} cannot be replayed: {error}", file=sys.stderr)
        return 2
    why = failure(plan)
    print(f"{path}: {why or 'every promise kept'}")
    if why and shrink:
        _shrink(plan)
    return 1 if why else 0


def _tell(paths: list[Path]) -> int:
    changed = 0
    for path in paths:
        written, told = Story(path).play()
        if told != written:
            changed += 1
            path.write_text(told + "\n")
            print(f"{path} goes another way now; see the difference")
    return 1 if changed else 0


def _shrink(plan: Plan, task: Task | None = None) -> None:
    plan = Shrinker(failure, tell=lambda line: print(f"... {line}", file=sys.stderr)).shrink(plan)
    print(f"# {'' if task is None else f'{task.kind} seed {task.seed}, cut down: '}{failure(plan)}")
    print(plan.text(), end="")


if __name__ == "__main__":
    sys.exit(main())
