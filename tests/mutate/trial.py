"""One mutant against its tests, in a process of its own: `python -m tests.mutate.trial` reads what to do as JSON.

The process ends with one of `Verdict`. Nothing is written: the changed text stands in for the file when it is imported.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import CodeType, ModuleType

import msgspec
import pytest
from tests.mutate.rooms import ROOT


class Verdict(IntEnum):
    """What came of a mutant; the process' exit code."""

    SURVIVED = 0
    KILLED = 10
    """A unit test failed."""
    SIMULATED = 11
    """Every unit test passed, the simulation failed."""
    UNCHANGED = 12
    """The changed module was never imported: no test had a chance."""


@dataclass(frozen=True)
class Trial:
    """What a process has to do."""

    path: str
    """The changed file, relative to the checkout."""
    source: str
    """Its changed text."""
    files: list[str]
    """Test files to collect ..."""
    tests: list[str]
    """... and the tests of them to run, in this order, until one fails. None: no unit test."""
    walks: int
    """Seeds of the short simulation; 0 for none."""


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one file with another text."""

    def __init__(self, path: str, source: str) -> None:
        self._file = ROOT / path
        self._source = source
        self.imported = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find the module if its file is the changed one."""
        name = fullname.rpartition(".")[2]
        if name not in (self._file.stem, self._file.parent.name):
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        if found is None or found.origin is None or Path(found.origin) != self._file:
            return None
        package = self._file.name == "__init__.py"
        return importlib.util.spec_from_file_location(
            fullname,
            found.origin,
            loader=self,
            submodule_search_locations=[os.fspath(self._file.parent)] if package else None,
        )

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed text."""
        self.imported = True
        code: CodeType = compile(self._source, os.fspath(self._file), "exec", dont_inherit=True)
        exec(code, module.__dict__)


class Chosen:
    """A pytest plugin: runs these tests in this order, and no others."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._order = {test: place for place, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Choose and sort."""
        items[:] = sorted(
            (item for item in items if item.nodeid in self._order), key=lambda item: self._order[item.nodeid]
        )


def attempt(trial: Trial) -> Verdict:
    """Run the tests, then the simulation."""
    changed = Changed(trial.path, trial.source)
    sys.meta_path.insert(0, changed)
    if trial.tests:
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header", "--tb=line"]
        code = pytest.main([*options, *trial.files], plugins=[Chosen(trial.tests)])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return Verdict.KILLED
    if trial.walks and _simulation_fails(trial.walks):
        return Verdict.SIMULATED
    return Verdict.SURVIVED if changed.imported else Verdict.UNCHANGED


def _simulation_fails(walks: int) -> bool:
    try:
        from tests.sim.campaign import take, tasks  # imports what may be the changed code
    except Exception:
        return True
    for task in tasks(("replication", "people", "storm"), 0, walks, 60, 0):
        _, why = take(task)
        if why:
            print(f"{task.kind} seed {task.seed}: {why}")
            return True
    return False


def main() -> int:
    """Do what standard input says; return the exit code."""
    trial = msgspec.json.decode(sys.stdin.buffer.read(), type=Trial)
    sys.dont_write_bytecode = True
    return attempt(trial)


if __name__ == "__main__":
    sys.exit(main())
