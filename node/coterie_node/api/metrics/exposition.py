"""`GET /metrics`: the node's own registry, in Prometheus' text format or OpenMetrics, as the scraper asks."""

from __future__ import annotations

import re

from aiohttp import web
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from .sources import Sources
from .table import FAMILIES
from .writing import Writer

METRICS_PATH = "/metrics"
ESCAPING = re.compile(r";\s*escaping=[^;,]*")
"""A wish for how names beyond letters, digits and underscores are written: there are none."""


class Exposition:
    """Reads a node's metrics when it is asked for them, on the event loop: there is nothing to lock.

    Every node has a registry of its own for what prometheus_client tells of the process, so that several may live in
    one, as they do in tests.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._writers = {
            openmetrics: [(family, Writer(family, openmetrics=openmetrics)) for family in FAMILIES]
            for openmetrics in (False, True)
        }

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition and its content type, for an Accept header."""
        encode, content_type = choose_encoder(ESCAPING.sub("", accept))
        self._sources.scrape()
        lines: list[str] = []
        for family, writer in self._writers["openmetrics" in content_type]:
            writer.write(family.read(self._sources), lines.append)
        return "".join(lines).encode() + encode(self._registry), content_type


def add_metrics(app: web.Application, exposition: Exposition) -> None:
    """Serve `GET /metrics`. It is open: it names nodes, and nothing of users."""

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = exposition.text(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    app.router.add_get(METRICS_PATH, metrics)
