"""Kubernetes for the tests: a control plane alone for what the API decides, a whole cluster for what pods do."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kube.lab.cluster import Cluster, check_machine, remains_of
from tests.kube.lab.definition import define
from tests.kube.lab.handle import Kube
from tests.kube.lab.images import helpers, ours
from tests.kube.lab.plane import start_plane
from tests.kube.lab.ring import CHART, ON_IMAGE, Ring
from tests.kube.lab.tools import CONTROL_PLANE, NODES, programs
from tests.tools.needs import or_skip

BUILDING = 1800
"""Seconds that a test may take whose fixtures have to build a Kubernetes first; `prepare` has built it as a rule."""

GIVEN = "COTERIE_TEST_KUBECONFIG"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of Kubernetes time, and their mark."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.kube)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(BUILDING))


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Kube]:
    """An API server with its controllers on loopback, without nodes: what it is told stays told, and no pod runs."""
    with or_skip():
        found = programs(CONTROL_PLANE)
    folder = Path(tempfile.mkdtemp(prefix="coterie-plane-"))
    plane = start_plane(found, folder)
    try:
        yield Kube(plane.kubeconfig, found)
    finally:
        plane.processes.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def plane(control_plane: Kube) -> Kube:
    """The control plane, knowing what a Ring is."""
    define(control_plane)
    return control_plane


@pytest.fixture
def space(plane: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for the test."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:50].strip("-")
    with plane.namespace(name):
        yield name


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kube]:
    """A whole Kubernetes: the one that COTERIE_TEST_KUBECONFIG names, otherwise three machines of our own.

    A given cluster has the image already (`kind load docker-image coterie:dev`, or `python -m tests.kube load`).
    """
    if given := os.environ.get(GIVEN):
        yield Kube(Path(given))
        return
    with or_skip():
        check_machine()
        found = programs((*CONTROL_PLANE, *NODES))
        images = [*helpers(found), ours()]
    folder = Path(tempfile.mkdtemp(prefix="coterie-kube-"))
    for old in folder.parent.glob("coterie-kube-*/prefix"):
        # What a run left that was killed before it could clean up. Its prefix names the process that owned it.
        if "by-hand" not in old.parent.name and not Path("/proc", old.read_text().removeprefix("ck")).exists():
            remains_of(old.parent).stop()
    running = Cluster(found, folder)
    try:
        yield running.start(images)
    finally:
        running.stop()


NAMESPACE = "coterie"


@pytest.fixture(scope="session")
def installed(cluster: Kube) -> Iterator[Ring]:
    """The chart, installed as the README says in a namespace under restricted Pod Security; with people in it."""
    with cluster.namespace(NAMESPACE, enforce="restricted") as namespace:
        cluster.helm("install", "coterie", CHART, "-n", namespace, *ON_IMAGE, "--wait", "--timeout=120s")
        ring = Ring(cluster, namespace)
        ring.whole(3)
        ring.people()
        yield ring
        cluster.helm("uninstall", "coterie", "-n", namespace, "--wait")


@pytest.fixture
def ring(installed: Ring) -> Ring:
    """The installed ring, whole, with three nodes of the image as installed."""
    if installed.resource["spec"]["replicas"] != 3:
        installed.scale(3)
    installed.whole(3)
    return installed
