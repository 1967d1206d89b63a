"""What a node says at /metrics: a real node, alone on loopback, and the table that names everything."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from bench.ports import free_port
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from coterie_node.api import admin
from coterie_node.api.metrics.family import Family, Kind, Value
from coterie_node.api.metrics.table import FAMILIES, NODE, STATES, STORE
from coterie_node.api.metrics.writing import Writer, number_text
from coterie_node.assembly.node import Node
from coterie_node.config.settings import Address, NodeConfig
from coterie_node.measure import Distribution
from coterie_operator.metrics import Metrics

ANY = Address("127.0.0.1", 0)
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5"
ROOT = Path(__file__).parents[3]
ALONE = {family.name for family in (*NODE, *STORE)} | {"coterie_peer_links", "coterie_peer_failures_total"}
"""What a node tells before it belongs to a ring."""


def config(directory: Path, admin: Address, *, found: bool) -> NodeConfig:
    return NodeConfig(
        data_dir=directory, name="n1", found=found, replication_factor=1, slots=16, bcrypt_cost=4,
        seed=() if found else (Address("127.0.0.1", 1),), listen_client=ANY, listen_peer=ANY, listen_admin=admin,
    )  # fmt: skip


@asynccontextmanager
async def running(directory: Path, *, found: bool) -> AsyncIterator[str]:
    """Run a node; yield the address of its admin port as soon as that answers, or once it is ready if it founds."""
    port = free_port(1)
    node = Node(config(directory, Address("127.0.0.1", port), found=found))
    starting = asyncio.create_task(node.start())
    try:
        async with asyncio.timeout(10):
            if found:
                await starting
            yield await answering(f"http://127.0.0.1:{port}")
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await node.stop()


async def answering(url: str) -> str:
    """Wait until somebody answers at an address."""
    while True:
        try:
            await get(url)
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.01)
        else:
            return url


async def get(url: str, accept: str = "") -> tuple[str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/metrics", headers={"Accept": accept} if accept else {}) as response,
    ):
        assert response.status == 200
        return await response.text(), response.headers["Content-Type"]


def by_name(text: str) -> dict[str, Metric]:
    families = list(text_string_to_metric_families(text))
    found = {family.name + ("_total" if family.type == "counter" else ""): family for family in families}
    assert len(found) == len(families)
    return found


async def test_a_node_alone_in_its_ring_tells_everything(tmp_path: Path) -> None:
    async with running(tmp_path, found=True) as url:
        text, kind = await get(url)
    assert kind.startswith("text/plain")
    found = by_name(text)
    ours = {name for name in found if name.startswith("coterie_")}
    assert ours == {family.name for family in FAMILIES}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "python_info"} <= found.keys()
    for family in FAMILIES:
        said = found[family.name]
        assert (said.type, said.documentation) == (family.kind.value, family.help)
        check_labels(family, said)
    assert [sample.labels["state"] for sample in found["coterie_node_state"].samples if sample.value] == ["ready"]
    assert found["coterie_arc_share_ratio"].samples[0].value == 1
    assert {tuple(s.labels.values()): s.value for s in found["coterie_slots"].samples} == {
        ("users",): 16, ("backups",): 0, ("held",): 0,
    }  # fmt: skip


def by_the_library(values: dict[str, Value], encode: Callable[[CollectorRegistry], bytes]) -> bytes:
    """Return what prometheus_client writes of the same values."""

    class Told(Collector):
        def collect(self) -> Iterator[Metric]:
            for family in FAMILIES:
                value = values[family.name]
                if isinstance(value, Distribution):
                    buckets = [(number_text(bound), float(number)) for bound, number in value.cumulative()]
                    yield HistogramMetricFamily(family.name, family.help, buckets=buckets, sum_value=value.total)
                elif value is not None:
                    counts = family.kind is Kind.COUNTER
                    kind = CounterMetricFamily if counts else GaugeMetricFamily
                    said = kind(family.name, family.help, labels=tuple(family.labels))
                    for labels, number in [((), value)] if isinstance(value, (int, float)) else value:
                        said.add_metric(labels, number)
                    yield said

    registry = CollectorRegistry()
    registry.register(Told())
    return encode(registry)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_lines_are_those_that_the_library_writes(accept: str) -> None:
    encode, content_type = choose_encoder(accept)
    rng = random.Random(1)
    values = {family.name: any_value(family, rng) for family in FAMILIES}
    lines: list[str] = []
    for family in FAMILIES:
        writer = Writer(family, openmetrics="openmetrics" in content_type)
        writer.write(values[family.name], lambda _: None)  # The second time it writes from what it has kept.
        writer.write(values[family.name], lines.append)
    expected = by_the_library(values, encode).removesuffix(b"# EOF\n")
    assert "".join(lines).encode() == expected


def any_value(family: Family, rng: random.Random) -> Value:
    if family.kind is Kind.HISTOGRAM:
        found = Distribution((0, 1, 2.5, 3_600.0, 2_592_000.0))
        for _ in range(rng.randrange(40)):
            found.observe(rng.expovariate(0.001))
        return found
    numbers = [0, 1, True, 0.25, 1e-7, 12_345_678, 1 << 60, float("inf"), rng.random()]
    if not family.labels:
        return rng.choice(numbers)
    texts = ["plain", 'a "quoted" one', "back\\slash", "two\nlines", "Zoë", ""]
    return [(tuple(rng.choice(texts) + str(n) for _ in family.labels), rng.choice(numbers)) for n in range(3)]


def check_labels(family: Family, said: Metric) -> None:
    """See that no label is there that is not declared, and no value that is not listed."""
    for sample in said.samples:
        labels = set(sample.labels) - ({"le"} if family.kind is Kind.HISTOGRAM else set())
        assert labels == family.labels.keys()
        for label in labels:
            bound = family.labels[label]
            assert isinstance(bound, str) or sample.labels[label] in bound


async def test_a_node_that_is_asked_too_much_else_is_still_scraped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "AT_ONCE", 0)
    async with running(tmp_path, found=True) as url:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/api/v1/node") as response:
            assert response.status == 503
        text, _ = await get(url)
    assert "coterie_node_info" in text


async def test_a_scraper_gets_the_form_that_it_asks_for(tmp_path: Path) -> None:
    async with running(tmp_path, found=True) as url:
        text, kind = await get(url, OPENMETRICS)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in parse_openmetrics(text)}  # type: ignore[no-untyped-call]
    assert {family.name.removesuffix("_total") for family in FAMILIES} <= names


async def test_names_stay_as_they_are_whatever_escaping_is_asked_for(tmp_path: Path) -> None:
    """They have nothing to escape, but one of the schemes would double every underscore."""
    async with running(tmp_path, found=True) as url:
        text, kind = await get(url, "application/openmetrics-text;version=1.0.0;escaping=dots,text/plain;q=0.1")
    assert "openmetrics-text; version=1.0.0" in kind
    assert "dots" not in kind
    assert "\ncoterie_node_info{" in text
    assert "\nprocess_cpu_seconds_total " in text


async def test_a_node_that_waits_for_a_ring_tells_what_it_can(tmp_path: Path) -> None:
    async with running(tmp_path, found=False) as url:
        text, _ = await get(url)
    found = by_name(text)
    assert {name for name in found if name.startswith("coterie_")} == ALONE
    assert found["coterie_node_info"].samples[0].labels["ring_uid"] == ""
    assert [sample.labels["state"] for sample in found["coterie_node_state"].samples if sample.value] == ["joining"]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_and_texts_are_as_prometheus_wants_them(family: Family) -> None:
    assert re.fullmatch(r"coterie_[a-z][a-z0-9_]*[a-z]", family.name)
    assert (family.kind is Kind.COUNTER) == family.name.endswith("_total")
    for text in (family.what, family.high):
        assert text.endswith(".")
    assert " High: " in family.help
    for label, bound in family.labels.items():
        assert re.fullmatch(r"[a-z_]+", label)
        assert bound


def test_no_metric_is_named_twice() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert len(set(STATES)) == len(STATES)


def test_the_page_in_the_docs_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/metrics_docs.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_page_names_every_metric() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    told = {family.name for family in Metrics().registry.collect()}
    operator = {name for name in told if name.startswith("coterie_")}
    assert operator
    for name in {family.name for family in FAMILIES} | operator:
        assert f"`{name}" in page
