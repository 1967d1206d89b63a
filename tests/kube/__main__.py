"""`python -m tests.kube prepare|up|down|load`: what the Kubernetes tests need, and a cluster to try things on."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.kube.lab.cluster import Cluster, check_machine, remains_of
from tests.kube.lab.images import helpers, ours
from tests.kube.lab.monitors import sources
from tests.kube.lab.tools import CONTROL_PLANE, NODES, programs
from tests.tools.needs import CannotRun, say

DEFAULT = Path(tempfile.gettempdir()) / "coterie-kube-by-hand"


def prepare() -> None:
    """Build everything that the tests will use. Raises CannotRun."""
    check_machine()
    programs(CONTROL_PLANE)
    sources()
    helpers(programs(NODES))
    ours()


def up(folder: Path, nodes: int) -> None:
    """Start a cluster that stays until `down`."""
    check_machine()
    found = programs((*CONTROL_PLANE, *NODES))
    images = [*helpers(found), ours()]
    started = time.monotonic()
    folder.mkdir(parents=True)
    kube = Cluster(found, folder, nodes).start(images)
    say(f"up in {time.monotonic() - started:.0f} s. Now type:\n")
    print(f"export PATH={found}:$PATH KUBECONFIG={kube.kubeconfig}")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kube", description=__doc__)
    parser.add_argument("what", choices=["prepare", "up", "down", "load"])
    parser.add_argument("--dir", type=Path, default=DEFAULT, help="the cluster's folder (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=3, help="machines of the cluster (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        if arguments.what == "prepare":
            prepare()
        elif arguments.what == "up":
            up(arguments.dir, arguments.nodes)
        elif arguments.what == "down":
            remains_of(arguments.dir).stop()
        else:
            remains_of(arguments.dir).load(ours())
    except CannotRun as why:
        # Without CI these tests skip with the same words; the others can run all the same.
        say(f"no Kubernetes tests: {why}")
        return 1 if arguments.what != "prepare" or os.environ.get("CI") else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
