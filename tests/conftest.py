"""What holds for all tests: none leaves traces that another could stumble over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logs_go_where_they_went() -> Iterator[None]:
    """Undo what a test did to structlog, which is configured for the whole process.

    A simulation takes the logs itself; a test that breaks one off on purpose leaves it no chance to give them back.
    """
    yield
    structlog.reset_defaults()
