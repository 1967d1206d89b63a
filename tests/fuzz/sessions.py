"""Session files: whatever is in one, a command ends with one line and an exit code that is documented."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from tests.fuzz import shapes
from tests.fuzz.engine import Found, Target

from coterie_client import cli
from coterie_client.errors import ExitCode
from coterie_client.session import Session

COMMANDS = (["whoami"], ["whoami", "--json"], ["history", "bob"], ["contacts"])


class SessionFiles(Target):
    """A file that somebody has written over the session's."""

    name = "sessions"
    about = "session.json -> coterie whoami, history, contacts"

    def cases(self) -> st.SearchStrategy[tuple[bytes, list[str]]]:
        written = shapes.bytes_of(_json, shapes.of(Session))
        return st.tuples(st.one_of(written, written, st.binary(max_size=80)), st.sampled_from(COMMANDS))

    def begin(self, directory: Path) -> None:
        self._home = directory / "home"
        self._home.mkdir(mode=0o700)
        self._outside = directory
        self._before = {name: os.environ.get(name) for name in ("COTERIE_HOME", "COTERIE_DEBUG")}
        os.environ["COTERIE_HOME"] = str(self._home)
        os.environ.pop("COTERIE_DEBUG", None)

    def end(self) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def feed(self, case: tuple[bytes, list[str]]) -> None:
        written, command = case
        file = self._home / "session.json"
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_bytes(written)
        there = set(self._outside.iterdir())
        code, said = _run(command)
        if code not in set(ExitCode):
            raise Found(f"{command} exits {code}")
        if "a fault in this program" in said or "Traceback" in said:
            raise Found(f"{command} says: {said}")
        if code and len(said.strip().splitlines()) != 1:
            raise Found(f"{command} says more than a line: {said}")
        if set(self._outside.iterdir()) != there:
            raise Found("something was written outside COTERIE_HOME")


def _json(value: Any) -> bytes:
    return json.dumps(value, default=repr).encode("utf-8", "surrogatepass")


def _run(command: list[str]) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it says on standard error."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(command)
        sys.stdout.flush()
        sys.stderr.flush()
    return code, err.buffer.getvalue().decode("utf-8", "replace")
