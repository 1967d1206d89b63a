"""What the tests in a browser need from outside: Debian's Chromium, and axe-core from npm.

axe-core is third-party source, so it is kept in the cache of the tests and never in the repository.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.tools.debian import Debian, find
from tests.tools.needs import CannotRun, cache

CHROMIUM = Debian("chromium", programs=("chromium",))

AXE = "4.14.1"
"""axe-core's version: another one may find other things, and a test must not fail because a day has passed."""


def chromium() -> str:
    """Return the browser's path. Raises CannotRun."""
    return find("chromium-browser") or CHROMIUM.program("chromium")


def axe() -> Path:
    """Return axe-core as one script, which is fetched if it is not there. Raises CannotRun."""
    folder = cache("browser") / f"axe-core-{AXE}"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if script.exists():
        return script
    npm = shutil.which("npm")
    if npm is None:
        raise CannotRun("there is no npm, by which axe-core comes: install it (apt-get install npm)")
    folder.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--no-save"]
    done = subprocess.run([*command, f"axe-core@{AXE}"], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode or not script.exists():
        raise CannotRun(f"axe-core {AXE} could not be fetched: {done.stderr.strip()[-500:]}")
    return script
