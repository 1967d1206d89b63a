from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.sim.memory_store import MemoryStore

from coterie_node.runtime import ports
from coterie_node.store.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "data")
    yield opened
    await opened.close()


@pytest.fixture(params=["sqlite", "memory"])
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ports.Store]:
    """The store that nodes use, and its twin of the simulation: the same contract."""
    if request.param == "memory":
        yield MemoryStore(random.Random(1))
        return
    opened = await Store.open(tmp_path / "data")
    sqlite: ports.Store = opened  # The static half of the contract: it implements the port.
    yield sqlite
    await opened.close()
