"""Kubernetes for the tests: a control plane alone for what the API decides, a whole cluster for what pods do."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kube.lab.handle import Kube
from tests.kube.lab.plane import start_plane
from tests.kube.lab.tools import CONTROL_PLANE, CannotRun, programs

BUILDING = 1800
"""Seconds that a test may take whose fixtures have to build a Kubernetes first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of Kubernetes time, and their mark."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.kube)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(BUILDING))


def _skip_or_fail(why: CannotRun) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"in CI the Kubernetes tests never skip: {why}", pytrace=False)
    pytest.skip(str(why))


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Kube]:
    """An API server with its controllers on loopback, without nodes: what it is told stays told, and no pod runs."""
    try:
        found = programs(CONTROL_PLANE)
    except CannotRun as why:
        _skip_or_fail(why)
        raise
    folder = Path(tempfile.mkdtemp(prefix="coterie-plane-"))
    plane = start_plane(found, folder)
    try:
        yield Kube(plane.kubeconfig, found)
    finally:
        plane.processes.stop()
        shutil.rmtree(folder, ignore_errors=True)
