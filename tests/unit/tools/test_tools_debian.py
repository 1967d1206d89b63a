"""What the tests need of Debian is there, or its absence is told in a line that helps."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tools.debian import Debian, install
from tests.tools.needs import CannotRun, or_skip
from tests.tools.wanted import PROMETHEUS

ABSENT = Debian("a-package-of-nobody", programs=("a-program-of-nobody",))
ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def not_root() -> Iterator[None]:
    """Give up the rights of root as long as the block lasts."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_without_root_it_is_said_what_is_missing_and_what_to_type() -> None:
    with (
        pytest.raises(CannotRun, match=r"a-package-of-nobody; .*`sudo apt-get install .* a-package-of-nobody`$"),
        not_root(),
    ):
        install([ABSENT])


def test_what_is_there_needs_no_rights() -> None:
    with not_root():
        install([Debian("coreutils", programs=("ls", "cat")), Debian("anything", files=(Path("/etc/passwd"),))])


def test_a_file_that_does_not_exist_is_missing(tmp_path: Path) -> None:
    assert not Debian("anything", programs=("ls",), files=(tmp_path / "absent",)).present()


def test_whoever_wants_an_absent_program_is_told_the_command() -> None:
    with pytest.raises(CannotRun, match=r"a-program-of-nobody is missing: .*tests\.tools prepare"):
        ABSENT.program("a-program-of-nobody")


def test_absence_skips_a_test_but_fails_it_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"tests\.tools prepare"), or_skip():
        ABSENT.program("a-program-of-nobody")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"tests\.tools prepare"), or_skip():
        ABSENT.program("a-program-of-nobody")


def test_prepare_is_quick_where_everything_is_there() -> None:
    with or_skip():
        PROMETHEUS.program("promtool")
    before = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "tests.tools", "prepare"], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert time.monotonic() - before < 5.0
