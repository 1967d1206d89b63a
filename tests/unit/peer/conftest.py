from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.unit.peer.nodes import Node

MakeNode = Callable[..., Awaitable[Node]]


@pytest.fixture
async def make() -> AsyncIterator[MakeNode]:
    """Start nodes; stop them afterwards, and see that nothing is left of them."""
    before = asyncio.all_tasks()
    nodes: list[Node] = []

    async def start(number: int, *args: Any, port: int = 0, **kwargs: Any) -> Node:
        node = Node(number, *args, **kwargs)
        await node.start(port)
        nodes.append(node)
        return node

    yield start
    for node in nodes:
        await node.stop()
    before |= {task for task in (asyncio.current_task(),) if task is not None}
    if left := asyncio.all_tasks() - before:  # aiohttp's own tasks end some turns after their connection
        _, left = await asyncio.wait(left, timeout=2.0)
    assert not [task.get_name() for task in left]
