"""The nemesis as a command: real node processes, people, faults; exit code 1 if anything acknowledged came to harm.

Example: python -m tests.cluster.nemesis --messages 1000000 --faults 1000 --seed 1 --report nemesis.txt

The seed gives the schedule of faults and what each of them decides by lot; what nodes and people do in the meantime is
theirs. Ctrl-C ends it early, with checks and report. Nodes run from the source that is there when they are started:
leave it alone meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
from pathlib import Path

import uvloop
from tests.cluster.nemesis.report import Report
from tests.cluster.nemesis.run import Options, Run
from tests.history.events import History


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster.nemesis",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--messages", type=int, default=100_000, help="acknowledged messages (default: %(default)s)")
    parser.add_argument("--faults", type=int, default=100, help="faults (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the faults' schedule (default: a random one, which is printed)")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="how long the faults should take (default: 2 s each)")
    parser.add_argument("--only", action="append", default=[], metavar="KIND", help="only this kind; may be repeated")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    parser.add_argument("--dir", type=Path, help="keep the nodes' data and logs there (default: a directory that goes)")
    parser.add_argument(
        "--careless", action="store_true", help="nodes that do not wait for the disk: should be noticed"
    )
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="coterie-nemesis-", ignore_cleanup_errors=True) as temporary:
        directory = (options.dir or Path(temporary)).absolute()
        asked = Options(
            directory, options.messages, options.faults, seed, options.nodes, options.minutes, options.careless,
            tuple(options.only),
        )  # fmt: skip
        report, history = uvloop.run(_run(asked))
        if options.dir is not None:
            history.save(directory / "accounts.jsonl")
    text = json.dumps(report.object()) if options.json else report.text()
    print(text)
    if options.report is not None:
        options.report.write_text(text + "\n")
    return 0 if report.good else 1


async def _run(options: Options) -> tuple[Report, History]:
    run = Run(options)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        print("stopping; what has happened is checked (Ctrl-C again to give that up)", file=sys.stderr)
        run.stop()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGTERM, stop)
    return await run.go(), run.books.history


if __name__ == "__main__":
    sys.exit(main())
