"""Liveness and readiness, for whoever restarts nodes or sends users to them.

Alive means that the event loop turns: a node without a quorum is alive, and restarting it would help nobody.
Ready is about this node (joined, store writable, start-up sync done, in touch with a majority of at least one
of its slots), never about what is under-replicated elsewhere: a node that is cut off can serve nobody, another may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from coterie_protocol.admin import Readiness

HEALTH_PATHS = ("/livez", "/readyz")
_encode = msgspec.json.encode


def json_response(value: object, status: int = 200) -> web.Response:
    """Answer with a msgspec struct (or a list or dict of them) as JSON."""
    return web.Response(body=_encode(value), status=status, content_type="application/json")


def add_health(app: web.Application, readiness: Callable[[], Readiness]) -> None:
    """Serve `GET /livez` and `GET /readyz`."""

    async def livez(_: web.Request) -> web.Response:
        return json_response({"alive": True})

    async def readyz(_: web.Request) -> web.Response:
        found = readiness()
        return json_response(found, 200 if found.ready else 503)

    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
