"""What holds for all tests: none leaves traces that another could stumble over."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

hypothesis.settings.register_profile("coterie", deadline=None)  # a property is not wrong because the machine is busy
hypothesis.settings.load_profile("coterie")


def pytest_configure() -> None:
    """Heed Ctrl-C also where whoever started the tests does not, as a shell's `&` in a script: it is inherited.

    What tests start would rightly ignore it too, and tests of it would fail.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what needs a Kubernetes last, whatever the order is otherwise.

    A cluster that stands by costs the processor some of its time, and the other tests measure times.
    """
    kube = Path(__file__).parent / "kube"
    items.sort(key=lambda item: (kube in item.path.parents, item.path.name.startswith("test_kube_")))


LISTED = 50
"""How many failures the last list names."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """End with a list of what failed, a line each: what CI shows of a log is its end, and one reason may fill that."""
    yield
    failed = [report for outcome in ("error", "failed") for report in terminalreporter.stats.get(outcome, ())]
    if failed:
        terminalreporter.section("what failed")
    for report in failed[:LISTED]:
        reason = getattr(getattr(report.longrepr, "reprcrash", None), "message", None) or str(report.longrepr)
        terminalreporter.write_line(f"{report.nodeid} ({report.when}): {reason.strip().splitlines()[0][:200]}")
    if len(failed) > LISTED:
        terminalreporter.write_line(f"and {len(failed) - LISTED} more")


@pytest.fixture(autouse=True)
def files_are_made_as_before() -> Iterator[None]:
    """Undo a change of the umask: the client's commands make it 077, and a container's root would be nobody else's."""
    before = os.umask(0o077)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def logs_go_where_they_went() -> Iterator[None]:
    """Undo what a test did to structlog, which is configured for the whole process.

    A simulation takes the logs itself; a test that breaks one off on purpose leaves it no chance to give them back.
    """
    yield
    structlog.reset_defaults()
