"""Background work of a node: what fails is said once, and a disk that fails in one line without a traceback."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from coterie_node.runtime.dispatch import TaskGroup
from coterie_node.runtime.ports import StoreError


async def failing(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(("error", "traceback"), [(StoreError("the disk is full"), False), (KeyError("x"), True)])
async def test_only_what_nobody_expected_has_a_traceback(error: Exception, traceback: bool) -> None:
    tasks = TaskGroup()
    ended = asyncio.Event()
    with capture_logs() as logs:
        tasks.start(failing(error), "remember peers")
        asyncio.get_running_loop().call_later(0.01, ended.set)
        await ended.wait()
    (said,) = logs
    assert said["task"] == "remember peers"
    assert ("exc_info" in said) == traceback
    assert traceback or (said["log_level"], said["reason"]) == ("warning", "the disk is full")
    await tasks.close()
