"""`python -m tests.fuzz`: feeds the real code with hostile input for as long as one likes."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from tests.fuzz.engine import explore, explore_for
from tests.fuzz.mutations import MUTANTS, search
from tests.fuzz.targets import TARGETS

EXAMPLES = """\
examples:
  python -m tests.fuzz --minutes 10
      every target in turn, with a new seed each time, for ten minutes in all
  python -m tests.fuzz --target client-frames --target peer-frames --minutes 60
  python -m tests.fuzz --mutations
      put the faults of tests/fuzz/mutations.py back, one at a time: each must be found
  python -m tests.fuzz --target bodies --seed 7 --examples 200
      repeat one run, as it is printed when something is found

Exit codes: 0 nothing was found, 1 something was, 2 usage.
"""


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; may be given again")
    parser.add_argument("--minutes", type=float, help="how long in all (default: one seed for each target)")
    parser.add_argument("--seed", type=int, help="where to begin (default: anywhere)")
    parser.add_argument("--examples", type=int, default=200, metavar="N", help="cases of one seed (default 200)")
    parser.add_argument("--mutations", action="store_true", help="put known faults back, and say which are found")
    parser.add_argument("--list", action="store_true", help="name the targets and what they are fed")
    arguments = parser.parse_args()
    names = arguments.target or list(TARGETS)
    if arguments.list:
        for name in names:
            print(f"{name:15}{TARGETS[name].about}")
        return 0
    if arguments.mutations:
        return _mutations(names)
    first = arguments.seed if arguments.seed is not None else secrets.randbits(31)
    findings = 0
    for name in names:
        begun = time.monotonic()
        if arguments.minutes is None:
            finding, seeds = explore(TARGETS[name](), first, arguments.examples), 1
        else:
            finding, seeds = explore_for(
                TARGETS[name](), first, arguments.examples, 60 * arguments.minutes / len(names)
            )
        print(
            f"{name}: {seeds} seeds from {first} of {arguments.examples} cases in {time.monotonic() - begun:.0f} s",
            flush=True,
        )
        if finding is not None:
            findings += 1
            print(finding, file=sys.stderr, flush=True)
    return 1 if findings else 0


def _mutations(names: list[str]) -> int:
    missed = 0
    for mutant in MUTANTS:
        if mutant.target in names:
            finding, seeds = search(mutant)
            missed += finding is None
            print(f"{mutant.target:15}{mutant.name:40}{f'seed {seeds - 1}' if finding else 'not found'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
