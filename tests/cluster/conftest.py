"""Rings for the tests: one that a module's tests share, and fresh ones that a test may break."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cluster.harness import Ring
from tests.cluster.lan import Lan
from tests.cluster.people import Shell

MakeRing = Callable[..., Ring]
MakeShell = Callable[[str], Shell]
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("cluster")


@pytest.fixture
def make_ring(tmp_path: Path) -> Iterator[MakeRing]:
    """Make rings that are not started yet; they are stopped after the test."""
    rings: list[Ring] = []

    def make(nodes: int = 5, **environment: str) -> Ring:
        ring = Ring(tmp_path / f"ring-{len(rings)}", nodes, environment)
        rings.append(ring)
        return ring

    yield make
    for ring in rings:
        ring.stop()


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    """Return a running ring of five nodes that no test of the module harms."""
    ring = Ring(tmp_path_factory.mktemp("ring"))
    ring.start()
    try:
        asyncio.run(ring.ready())
        yield ring
        assert all(node.running for node in ring.nodes), [node.last_words for node in ring.nodes]
    finally:
        ring.stop()


@pytest.fixture
def name() -> Callable[[str], str]:
    """Make names that no other test has taken in a shared ring."""
    number = next(_numbers)
    return lambda text: f"{text}{number}"


@pytest.fixture
def shell(ring: Ring, tmp_path: Path) -> MakeShell:
    """Make people at terminals of the shared ring."""
    return lambda name: Shell(tmp_path / name, ring.servers)


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    """Three machines, each a network namespace."""
    made = Lan(tmp_path)
    try:
        made.build(3)
        yield made
    finally:
        made.close()
