"""Simulate rings: one large one under churn, or random walks of many small ones."""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback

from tests.sim.ring.big import big
from tests.sim.ring.walk import WALKS

EXAMPLES = """\
examples:
  python -m tests.sim.ring --nodes 10000 --seconds 30 --seed 1     ten thousand nodes under churn, and the figures
  python -m tests.sim.ring --seeds 1000                            random walks of small rings over 1,000 seeds

exit code: 0 all held, 1 something was violated (the seed is named)"""


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim.ring",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=10_000, help="nodes of the large ring (default 10000)")
    parser.add_argument("--seconds", type=float, default=30.0, help="simulated seconds of churn (default 30)")
    parser.add_argument("--seed", type=int, default=1, help="the large ring's seed (default 1)")
    parser.add_argument(
        "--churn",
        type=float,
        default=5.0,
        help="events a second among a thousand nodes (default 5, so 0.5 %% a second)",
    )
    parser.add_argument("--loss", type=float, default=0.01, help="share of messages that vanish (default 0.01)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--seeds", type=int, help="take random walks of small rings over so many seeds instead")
    parser.add_argument("--first", type=int, default=0, help="the first seed of the walks (default 0)")
    options = parser.parse_args()
    if options.nodes < 16 or options.nodes > 100_000 or options.seconds <= 0:
        parser.error("a large ring has 16 to 100000 nodes and runs for more than 0 seconds")
    if options.seeds is not None:
        return _walk(options.first, options.seeds, options.json)
    try:
        figures = big(options.nodes, options.seconds, options.seed, options.churn, options.loss, _progress)
    except AssertionError as error:
        print(f"violated: {error}", file=sys.stderr)
        return 1
    print(json.dumps(figures.json(), indent=2) if options.json else figures.text())
    return 0


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _walk(first: int, count: int, as_json: bool) -> int:
    began = told = time.monotonic()
    failed = []
    for seed in range(first, first + count):
        for walk in WALKS:
            try:
                walk(seed)
            except Exception:
                failed.append({"walk": walk.__name__, "seed": seed})
                _progress(f"{walk.__name__}, seed {seed}:\n{traceback.format_exc()}")
        if time.monotonic() > told + 5:
            told = time.monotonic()
            _progress(f"{seed - first + 1} of {count} seeds, {len(failed)} walks failed")
    took = time.monotonic() - began
    if as_json:
        print(json.dumps({"first": first, "seeds": count, "walks": count * len(WALKS), "failed": failed}))
    else:
        print(f"{count} seeds, {count * len(WALKS)} walks in {took:.0f} s, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
