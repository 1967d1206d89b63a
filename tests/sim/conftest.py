"""What simulated tests share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.sim.loop import run


@pytest.fixture
def simulate(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a coroutine in virtual time; a failure names its seed."""

    def start(main: Coroutine[Any, Any, Any], seed: int = 0) -> Any:
        try:
            return run(main, seed)
        except BaseException as error:
            error.add_note(f"seed {seed} of {request.node.nodeid}")
            raise

    return start
