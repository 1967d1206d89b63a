"""The operator's command on an installation without the extra `operator`."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from coterie_operator.entry import EXTRA

SOURCES = Path(__file__).parents[3]
ROOTS = ("protocol", "node", "client", "operator")

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Return a runner of the command where every installed package is found but those of the extra."""
    for installed in Path(sysconfig.get_path("purelib")).iterdir():
        if installed.name not in EXTRA and installed.suffix != ".pth":
            (tmp_path / installed.name).symlink_to(installed)
    path = os.pathsep.join([str(tmp_path), *(str(SOURCES / root) for root in ROOTS)])

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-S", "-m", "coterie_operator.entry", *arguments],
            env={**os.environ, "PYTHONPATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    return run


@pytest.mark.parametrize("arguments", [["run"], ["apply-crd", "rings.yaml"]])
def test_without_the_extra_one_line_says_what_to_install(command: Command, arguments: list[str]) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"coterie-operator: the extra `operator` is not installed \(no module \w+\); .*pip install '\.\[operator\]'\n",
        done.stderr,
    )


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["run", "--help"], 0), (["--version"], 0), (["run", "--lease"], 2)]
)
def test_without_the_extra_help_and_usage_are_answered(command: Command, arguments: list[str], code: int) -> None:
    done = command(*arguments)
    assert done.returncode == code
    assert "coterie-operator" in (done.stderr if code else done.stdout)
    assert "extra" not in done.stderr


def test_the_modules_of_the_extra_are_those_of_its_distributions() -> None:
    """So what is added to the extra in pyproject.toml is named when it is missing, too."""
    distributions = importlib.metadata.packages_distributions()
    wanted = {
        re.split(r"[^\w.-]", line)[0].lower()
        for line in importlib.metadata.requires("coterie") or []
        if re.search(r"extra == ['\"]operator['\"]", line)
    }
    modules = {
        module
        for module, owners in distributions.items()
        if not module.startswith("_") and wanted & {owner.lower() for owner in owners}
    }
    assert wanted
    assert modules == EXTRA
