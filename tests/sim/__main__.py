"""Take random walks: `python -m tests.sim --seeds 1000 [--first 0] [--steps 60] [--storms]`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.sim.loop import run
from tests.sim.storm import storm
from tests.sim.walk import walk


def main() -> int:
    """Walk, and return 1 if a walk failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Random walks over simulated replication.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many walks (default 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--steps", type=int, default=60, help="steps a walk (default 60)")
    parser.add_argument("--storms", action="store_true", help="storms of proposers instead of walks")
    options = parser.parse_args()
    one = storm if options.storms else walk
    began = time.monotonic()
    failed = []
    for seed in range(options.first, options.first + options.seeds):
        try:
            run(one(options.steps), seed)
        except Exception:
            failed.append(seed)
            print(f"seed {seed} failed:\n{traceback.format_exc()}")
    took = time.monotonic() - began
    print(f"{options.seeds} walks in {took:.0f} s, {len(failed)} failed{': ' if failed else ''}{failed or ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
