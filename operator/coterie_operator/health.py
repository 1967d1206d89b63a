"""Health of the operator for the kubelet, and its metrics: /healthz, /readyz, /metrics.

Alive means that work gets done, not that the process answers: each part of the operator says when it last got an answer
out of the Kubernetes API, and one that is silent for too long makes /healthz fail, so that the kubelet starts it anew.
What a restart cannot mend (a missing permission, an invalid Ring) is an answer, and shows elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from aiohttp import web

from .metrics import Metrics


@dataclass
class _Part:
    limit: float
    last: float


class Health:
    """Which parts of the operator are at work. Times are in seconds of the clock that is handed in."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._parts: dict[str, _Part] = {}
        self._questions: list[Callable[[], str]] = []

    def ask(self, question: Callable[[], str]) -> None:
        """Ask this for readiness: it answers with what is waited for, or with nothing."""
        self._questions.append(question)

    def waiting(self) -> list[str]:
        """Return what the operator waits for before it can work."""
        return [said for question in self._questions if (said := question())]

    def expect(self, part: str, limit: float) -> None:
        """Count a part in: from now on it must beat at least each `limit` seconds."""
        self._parts[part] = _Part(limit, self._clock())

    def beat(self, part: str) -> None:
        """Say that a part just got something done. Nobody else's word counts for it."""
        if part in self._parts:
            self._parts[part].last = self._clock()

    def drop(self, part: str) -> None:
        """Count a part out: it ended as it should."""
        self._parts.pop(part, None)

    def dead(self) -> list[str]:
        """Return a sentence about each part that was silent for too long."""
        now = self._clock()
        return [
            f"{name}: nothing done for {now - part.last:.0f} s"
            for name, part in sorted(self._parts.items())
            if now - part.last > part.limit
        ]


def app(health: Health, metrics: Metrics) -> web.Application:
    """Build the web application."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(health.dead())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(health.dead() + health.waiting())

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", exposition)
    return application


@contextlib.asynccontextmanager
async def serve(health: Health, metrics: Metrics, port: int) -> AsyncIterator[int]:
    """Serve on every address at a port (0: a free one) and yield the port. Raises OSError when it is taken."""
    runner = web.AppRunner(app(health, metrics), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        # None: IPv4 and IPv6, whichever the pod has.
        site = web.TCPSite(runner, None if port else "127.0.0.1", port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _answer(reasons: list[str]) -> web.Response:
    body = json.dumps({"ok": not reasons, "reasons": reasons})
    return web.Response(text=body, content_type="application/json", status=503 if reasons else 200)
