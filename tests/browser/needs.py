"""What the tests in a browser need from outside: Debian's Chromium, and axe-core from npm.

axe-core is third-party source, so it is kept in the cache of the tests and never in the repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.kube.lab.tools import CannotRun

AXE = "4.14.1"
"""axe-core's version: another one may find other things, and a test must not fail because a day has passed."""


def cache() -> Path:
    """Return the folder for what is fetched once."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "coterie-tests" / "browser"


def chromium() -> str:
    """Return the browser's path. Raises CannotRun."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        raise CannotRun("there is no chromium: install it (apt-get install chromium)")
    return found


def axe() -> Path:
    """Return axe-core as one script, which is fetched if it is not there. Raises CannotRun."""
    folder = cache() / f"axe-core-{AXE}"
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


def prepare() -> None:
    """Get what is missing. Raises CannotRun."""
    if shutil.which("chromium") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        command = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
        if done.returncode:
            raise CannotRun(f"chromium could not be installed: {done.stderr.strip()[-500:]}")
    chromium()
    axe()
