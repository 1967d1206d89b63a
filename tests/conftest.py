"""What holds for all tests: none leaves traces that another could stumble over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

hypothesis.settings.register_profile("coterie", deadline=None)  # a property is not wrong because the machine is busy
hypothesis.settings.load_profile("coterie")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what needs a Kubernetes last, whatever the order is otherwise.

    A cluster that stands by costs the processor some of its time, and the other tests measure times.
    """
    kube = Path(__file__).parent / "kube"
    items.sort(key=lambda item: (kube in item.path.parents, item.path.name.startswith("test_kube_")))


@pytest.fixture(autouse=True)
def logs_go_where_they_went() -> Iterator[None]:
    """Undo what a test did to structlog, which is configured for the whole process.

    A simulation takes the logs itself; a test that breaks one off on purpose leaves it no chance to give them back.
    """
    yield
    structlog.reset_defaults()
