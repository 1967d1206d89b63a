"""Scraping the nodes of a ring as Prometheus does."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from tests.cluster.harness import Node


@dataclass
class Scrape:
    """What one node said at one time."""

    text: str
    seconds: float
    """How long it took to say it."""
    samples: dict[str, list[tuple[dict[str, str], float]]] = field(init=False)

    def __post_init__(self) -> None:
        self.samples = {}
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                self.samples.setdefault(sample.name, []).append((dict(sample.labels), sample.value))

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the series that have these labels; raises KeyError for a name that is not there."""
        return sum(value for found, value in self.samples[name] if labels.items() <= found.items())

    @property
    def series(self) -> set[tuple[str, ...]]:
        """Return every series: its name, then its labels' names and values."""
        return {
            (name, *(text for label in sorted(labels.items()) for text in label))
            for name, found in self.samples.items()
            for labels, _ in found
        }

    def values(self, name: str, label: str) -> set[str]:
        """Return the values that a label has."""
        return {found[label] for found, _ in self.samples.get(name, ())}


def scrape(node: Node) -> Scrape:
    """Scrape a node."""
    begun = time.monotonic()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{node.place.admin_url}/metrics", timeout=5) as response:
        text = response.read().decode()
    return Scrape(text, time.monotonic() - begun)


async def scrapes(nodes: list[Node]) -> list[Scrape]:
    """Scrape nodes, all at the same time."""
    return list(await asyncio.gather(*(asyncio.to_thread(scrape, node) for node in nodes)))


async def until(nodes: list[Node], what: Callable[[list[Scrape]], bool], seconds: float = 30.0) -> list[Scrape]:
    """Scrape until what the nodes say fulfils something; return it. Raises AssertionError."""
    deadline = time.monotonic() + seconds
    while True:
        found = await scrapes(nodes)
        if what(found):
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s; last:\n" + "\n".join(one.text for one in found)
        await asyncio.sleep(0.1)


def total(found: list[Scrape], name: str, **labels: str) -> float:
    """Return the sum over nodes."""
    return sum(one.sum(name, **labels) for one in found)
