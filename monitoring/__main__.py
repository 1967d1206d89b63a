"""`python -m monitoring build|picture`: write the dashboard, or draw its ring from what a Prometheus has.

python -m monitoring build                    write chart/dashboards/coterie-ring.json
python -m monitoring build --check            exit 1 if it is not what the code makes
python -m monitoring picture --prometheus http://127.0.0.1:9090 --out ring.svg
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from .dashboard import text
from .listing import DASHBOARD
from .picture import NoRing, draw
from .prometheus import EVERYTHING, NoAnswer, Prometheus, Window

ROOT = Path(__file__).parent.parent


def build(file: Path, *, check: bool) -> int:
    """Write the dashboard, or say whether it is current; return the exit code."""
    made = text()
    if not check:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(made)
        return 0
    if not file.exists() or file.read_text() != made:
        print(f"{file} is not what the code makes: run `python -m monitoring build`", file=sys.stderr)
        return 1
    return 0


def picture(prometheus: Prometheus, out: Path) -> int:
    """Draw the ring panel as it is now; return the exit code."""
    dashboard = json.loads(text())
    try:
        out.write_text(draw(dashboard, prometheus, Window(time.time())))
    except (NoAnswer, NoRing, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m monitoring", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="write the dashboard")
    building.add_argument("--check", action="store_true", help="write nothing, but say whether it is current")
    building.add_argument("--out", type=Path, default=ROOT / DASHBOARD, help="default: %(default)s")
    drawing = commands.add_parser("picture", help="draw the ring as an SVG")
    drawing.add_argument("--prometheus", required=True, metavar="URL", help="for example http://127.0.0.1:9090")
    drawing.add_argument("--ring", default=".*", metavar="UID", help="a ring's uid, where there are several")
    drawing.add_argument("--out", type=Path, required=True, metavar="FILE")
    given = parser.parse_args()
    if given.command == "build":
        return build(given.out, check=given.check)
    return picture(Prometheus(given.prometheus.rstrip("/"), {**EVERYTHING, "ring": given.ring}), given.out)


if __name__ == "__main__":
    sys.exit(main())
