"""Programs that come with Debian: installed where that takes no question, as root on a system that has apt-get."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .needs import CannotRun, say

_POLICY = Path("/usr/sbin/policy-rc.d")
_LOCK = ("-o", "DPkg::Lock::Timeout=300")
"""Seconds to wait for somebody else's apt-get: two test runs may start at once."""


@dataclass(frozen=True)
class Debian:
    """A package, or several, and how one sees that it is there."""

    packages: str
    """As apt-get install takes them, separated by spaces."""
    programs: tuple[str, ...] = ()
    """Found on the PATH, or in the folders of the system's programs, when it is there."""
    files: tuple[Path, ...] = ()
    """Exist when it is there; for what is no program."""
    services: tuple[str, ...] = ()
    """Names of services that the package brings and that must run neither now nor after the next boot."""

    def present(self) -> bool:
        """Return whether everything of it is there: a look at the file system, nothing more."""
        return all(find(program) for program in self.programs) and all(file.exists() for file in self.files)

    def program(self, name: str) -> str:
        """Return the path of one of its programs. Raises CannotRun with what to type."""
        if (found := find(name)) is None:
            raise CannotRun(f"{name} is missing: as root, `python -m tests.tools prepare` installs {self.packages}")
        return found


def find(program: str) -> str | None:
    """Return where a program is; some of Debian's are in folders that people have not on their PATH."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def install(wanted: Iterable[Debian]) -> None:
    """Install what is missing of these, and start nothing. Raises CannotRun.

    Without anything missing it asks nobody anything, and is done in milliseconds.
    """
    missing = [one for one in wanted if not one.present()]
    if not missing:
        return
    names = " ".join(one.packages for one in missing)
    remedy = f"`sudo apt-get install --no-install-recommends {names}`"
    if os.geteuid() != 0 or find("apt-get") is None:
        raise CannotRun(f"these Debian packages are missing (or what they hold): {names}; install them: {remedy}")
    say(f"installing {names}")
    with _nothing_starts():
        said = _apt("update", "-q") + _apt("install", "-y", "-q", "--no-install-recommends", *names.split())
    for one in missing:
        for service in one.services:
            for disable in (["update-rc.d", service, "disable"], ["systemctl", "disable", service]):
                if (program := find(disable[0])) is not None:
                    subprocess.run([program, *disable[1:]], capture_output=True, check=False)
    if absent := " ".join(one.packages for one in missing if not one.present()):
        raise CannotRun(f"{absent} could not be installed; apt-get said: {said.strip()[-2000:] or 'nothing'}")


def _apt(*arguments: str) -> str:
    """Run apt-get without questions; return what it complained of."""
    done = subprocess.run(
        ["apt-get", *_LOCK, *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode else ""


@contextlib.contextmanager
def _nothing_starts() -> Iterator[None]:
    """Forbid packages to start their services as long as the block lasts, as Debian's policy-rc.d does it."""
    before = _POLICY.read_bytes() if _POLICY.exists() else None
    mode = _POLICY.stat().st_mode if before is not None else 0
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            _POLICY.unlink(missing_ok=True)
        else:
            _POLICY.write_bytes(before)
            _POLICY.chmod(mode)
