"""Alive means that work gets done; the kubelet and people can ask."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

import coterie_operator
from coterie_operator.health import Health, serve
from coterie_operator.metrics import REASONS, Metrics

CALL = re.compile(r"\bProblem\((.*)\)")
WORD = re.compile(r'"([A-Z][A-Za-z]+)"')


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock)


@pytest.fixture
async def address(health: Health) -> AsyncIterator[str]:
    metrics = Metrics()
    metrics.leader.set(1)
    metrics.conditions("chat", "main", {"Available": True, "Degraded": False})
    async with serve(health, metrics, 0) as port:
        yield f"http://127.0.0.1:{port}"


async def ask(address: str, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(address + path) as answer:
        return answer.status, await answer.text()


async def test_a_silent_part_makes_it_dead_and_is_named(health: Health, clock: Clock, address: str) -> None:
    health.expect("watch", 180)
    health.expect("lease", 60)
    clock.now = 59
    health.beat("lease")
    assert (await ask(address, "/healthz"))[0] == 200
    clock.now = 181
    health.beat("lease")
    status, said = await ask(address, "/healthz")
    assert status == 503
    assert "watch: nothing done for 181 s" in said
    assert "lease" not in said
    health.beat("watch")
    assert (await ask(address, "/healthz"))[0] == 200


async def test_what_ended_as_it_should_is_not_missed(health: Health, clock: Clock, address: str) -> None:
    health.expect("ring chat/main", 10)
    health.drop("ring chat/main")
    health.beat("ring chat/main")
    clock.now = 1000
    assert (await ask(address, "/healthz"))[0] == 200


async def test_who_waits_is_alive_but_not_ready(health: Health, address: str) -> None:
    waits = ["the CustomResourceDefinition is missing"]
    health.ask(lambda: waits[0])
    assert (await ask(address, "/healthz"))[0] == 200
    status, said = await ask(address, "/readyz")
    assert status == 503
    assert "CustomResourceDefinition" in said
    waits[0] = ""
    assert (await ask(address, "/readyz"))[0] == 200


async def test_metrics(address: str) -> None:
    status, text = await ask(address, "/metrics")
    assert status == 200
    assert "coterie_operator_leader 1.0" in text
    assert 'coterie_operator_ring_condition{namespace="chat",ring="main",type="Available"} 1.0' in text
    assert "coterie_operator_reconcile_seconds_bucket" in text
    assert "coterie_operator_reconcile_errors_total" in text


def test_series_of_a_ring_that_is_gone_go_too() -> None:
    metrics = Metrics()
    metrics.conditions("chat", "main", {"Available": True, "Degraded": False})
    metrics.conditions("chat", "main", {"Available": False})
    assert b'type="Degraded"' not in metrics.text()
    metrics.nodes("chat", "main", wanted=3, ready=2)
    metrics.passed("chat", "main")
    metrics.passed("chat", "other")
    metrics.forget("chat", "main")
    assert b'ring="main"' not in metrics.text()
    assert b'ring="other"' in metrics.text()
    metrics.forget("chat", "main")


def test_every_metric_says_what_a_high_value_means() -> None:
    ours = [metric for metric in Metrics().registry.collect() if metric.name.startswith("coterie_")]
    assert len(ours) == 7
    assert [metric.name for metric in ours if not re.search(r"High|Above|for long|0 for", metric.documentation)] == []


def test_every_reason_is_counted_from_the_start() -> None:
    """What appears with its first error has no increase that an alert could see."""
    sources = Path(coterie_operator.__file__).parent.glob("*.py")
    given = {found for file in sources for call in CALL.findall(file.read_text()) for found in WORD.findall(call)}
    assert given == set(REASONS)
    text = Metrics().text().decode()
    assert all(f'coterie_operator_reconcile_errors_total{{reason="{reason}"}} 0.0' in text for reason in REASONS)
