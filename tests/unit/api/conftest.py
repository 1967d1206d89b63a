"""What the tests of the admin port's view share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.api.town import SLOTS, Place, plain

from coterie_node.store.store import Store


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[list[Place]]:
    """Four nodes on a circle; slot s belongs to node s // 2 and the two after it."""
    stores = [await Store.open(tmp_path / f"node-{i}") for i in range(4)]
    everyone: dict[str, Place] = {}
    places = [Place(everyone, i, store) for i, store in enumerate(stores)]
    for i, place in enumerate(places):
        place.next = [places[(i + j) % 4].me for j in (1, 2)]
        for slot in range(SLOTS):
            place.table.stored(plain(slot, *(places[(slot // 2 + j) % 4].uid for j in range(3))))
    yield places
    await asyncio.gather(*(store.close() for store in stores))
