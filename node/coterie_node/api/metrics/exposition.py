"""`GET /metrics`: the node's own registry, in Prometheus' text format or OpenMetrics, as the scraper asks."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from .sources import Sources
from .table import FAMILIES

METRICS_PATH = "/metrics"


class Exposition(Collector):
    """Reads a node's metrics when it is asked for them, on the event loop: there is nothing to lock.

    Every node has a registry of its own, so that several may live in one process, as they do in tests.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def describe(self) -> list[Metric]:
        """Say nothing before the first scrape: the rooms may not be there yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read every metric that has something to tell."""
        self.sources.scrape()
        for family in FAMILIES:
            found = family.collect(self.sources)
            if found is not None:
                yield found

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition and its content type, for an Accept header."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


def add_metrics(app: web.Application, exposition: Exposition) -> None:
    """Serve `GET /metrics`. It is open: it names nodes, and nothing of users."""

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = exposition.text(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    app.router.add_get(METRICS_PATH, metrics)
