"""A pytest plugin: which test runs which line of a room, and how long each test takes.

    python -m pytest -p tests.mutate.lines --lines-of DIRECTORY --lines-to FILE ...

The file is JSON: {"seconds": {test: s}, "lines": {file: {line: [test]}}}, files relative to the checkout. Lines that
run while modules are imported belong to the test "".
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import coverage
import pytest
from tests.mutate.rooms import ROOT


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    parser.addoption("--lines-of", action="append", default=[], help="a file or directory that is watched")
    parser.addoption("--lines-to", help="where what was seen is written")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to watch, before anything of the product is imported."""
    if config.getoption("--lines-to"):
        config.pluginmanager.register(Lines(config), "tests.mutate.lines.Lines")


class Lines:
    """Watches one run of pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self._to = Path(config.getoption("--lines-to"))
        of = [ROOT / path for path in config.getoption("--lines-of")]
        include = [os.fspath(path / "*") if path.is_dir() else os.fspath(path) for path in of]
        self._coverage = coverage.Coverage(data_file=None, include=include, config_file=False)
        self._coverage.start()
        self._seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Put what runs now down to this test."""
        self._coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self._coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up what a test takes."""
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        """Write what was seen."""
        self._coverage.stop()
        seen = {"seconds": self._seconds, "lines": dict(self._seen())}
        self._to.write_text(json.dumps(seen))

    def _seen(self) -> Iterator[tuple[str, dict[str, list[str]]]]:
        data = self._coverage.get_data()
        for file in data.measured_files():
            lines = {str(line): tests for line, tests in data.contexts_by_lineno(file).items() if line > 0}
            yield str(Path(file).relative_to(ROOT)), lines
