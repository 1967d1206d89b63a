"""Processes that belong to a folder: each with a log and a pid file, so that whoever comes later can end them too."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path


class Processes:
    """What runs for a cluster. Their pid files hold pid and start time: a pid used anew is nobody of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environment: dict[str, str] | None = None) -> int:
        """Start a process in a session of its own, so that a Ctrl-C at the tests does not reach it first."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o022,  # A container's root is made by these, and read by others than root.
            )
        self._children[name] = process
        (self.folder / f"{name}.pid").write_text(f"{process.pid} {_started(process.pid)}")
        return process.pid

    def until(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until a process that was started says that it is ready; fail with its last words."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive(name) or time.monotonic() > deadline:
                state = "is not ready" if self.alive(name) else "has stopped"
                raise AssertionError(f"{name} {state}; its log ends:\n{self.last_words(name)}")
            time.sleep(0.1)

    def alive(self, name: str) -> bool:
        """Return whether a process of ours runs."""
        return self._pid(name) is not None

    def last_words(self, name: str, lines: int = 20) -> str:
        """Return the end of a process's log."""
        log = self.folder / f"{name}.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"

    def stop(self, names: Sequence[str] | None = None, seconds: float = 10.0) -> None:
        """End these processes, or all: politely, then for good."""
        names = [path.stem for path in self.folder.glob("*.pid")] if names is None else names
        for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
            for name in names:
                self.signal(name, number)
            deadline = time.monotonic() + patience
            while any(self.alive(name) for name in names) and time.monotonic() < deadline:
                time.sleep(0.05)
        for name in names:
            if (child := self._children.pop(name, None)) is not None:
                child.wait(5.0)
            (self.folder / f"{name}.pid").unlink(missing_ok=True)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process of ours, if it runs."""
        if (pid := self._pid(name)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pid(self, name: str) -> int | None:
        try:
            pid, started = (self.folder / f"{name}.pid").read_text().split()
        except (OSError, ValueError):
            return None
        if (child := self._children.get(name)) is not None and child.poll() is not None:
            return None
        return int(pid) if _started(int(pid)) == started else None


def _started(pid: int) -> str:
    """Return when a process began (in clock ticks since boot), or "" when it is none or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
