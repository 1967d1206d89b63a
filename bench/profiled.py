"""`python -m bench.profiled OUT SCRIPT ARGUMENTS…`: run a program's main thread under a profiler that counts CPU time.

The wall clock would charge an idle event loop's waiting to whatever function ran last.
"""

from __future__ import annotations

import cProfile
import runpy
import sys
import time


def main() -> None:
    """Run the script; write the profile when it ends, however it ends."""
    out, script, *arguments = sys.argv[1:]
    sys.argv = [script, *arguments]
    profile = cProfile.Profile(time.thread_time)
    try:
        profile.runcall(runpy.run_path, script, run_name="__main__")
    finally:
        profile.dump_stats(out)


if __name__ == "__main__":
    main()
