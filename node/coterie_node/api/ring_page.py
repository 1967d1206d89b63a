"""The ring page on the admin port: its files, its stream of events, and lookups to watch.

The page asks for nothing outside of the node. Its files are read once and served with the hash of their contents as
their tag, so a browser never mixes those of two versions.
"""

from __future__ import annotations

import asyncio
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog
from aiohttp import web

from coterie_protocol.identifiers import slot_of

from ..http.origins import source_of
from .gatherer import Gatherer, Look, RingSource, event
from .health import json_response
from .seats import Seats
from .tracing import key_wanted

if TYPE_CHECKING:
    from coterie_protocol.admin_page import Trace

log = structlog.get_logger()

EVENTS_PATH = "/api/v1/events"
LOOKUP_PATH = "/api/v1/lookup"
BEAT = 2.0
"""Seconds of quiet after which a stream says that the node lives. A page that hears nothing for three doubts it."""
PATIENCE = 5.0
"""Seconds that a reader may take for what it was sent; then its stream is cut off."""
RETRY_MS = 1000
"""How soon a browser that has lost the stream tries again."""
LOOKUPS_AT_ONCE = 4
"""Lookups that are traced at the same time, shared by those who ask; each asks some other nodes."""

PROTECTION = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Sent with everything here. Names in a ring come from other nodes: should one ever reach the page as more than text,
nothing that it says may run or load."""
GATHERER = web.AppKey("gatherer", Gatherer)
_TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}


class PageSource(RingSource, Protocol):
    """What the page shows; the node's view, or a stage that plays a ring."""

    def slots(self) -> int:
        """Return S. Raises Unavailable while the node is in no ring."""
        ...

    async def lookup(self, slot: int) -> Trace:
        """Look up who owns a slot, hop by hop. Raises CoterieError."""
        ...


class _File:
    """One file of the page, with the headers that it is served with."""

    def __init__(self, name: str, body: bytes) -> None:
        self.body = body
        self.kind = _TYPES[name.rpartition(".")[2]]
        self.tag = hashlib.sha256(body).hexdigest()[:32]

    def answer(self, request: web.Request) -> web.Response:
        """Answer with the file, or that the browser has it."""
        headers = {**PROTECTION, "Cache-Control": "no-cache", "ETag": f'"{self.tag}"', "Vary": "Accept"}
        known = request.if_none_match
        if known is not None and any(one.value in (self.tag, "*") for one in known):
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.body, content_type=self.kind, charset="utf-8", headers=headers)


def page_files() -> dict[str, bytes]:
    """Return the page's files by name."""
    found = {}
    for path in (resources.files("coterie_node.api") / "page").iterdir():
        if path.is_file() and path.name.rpartition(".")[2] in _TYPES:
            found[path.name] = path.read_bytes()
    return found


class RingPage:
    """The page's routes, if it is open."""

    def __init__(self, source: PageSource, *, opened: bool) -> None:
        self._source = source
        self._opened = opened
        self._files = {name: _File(name, body) for name, body in page_files().items()} if opened else {}
        self._gatherer = Gatherer(source)
        self._lookups = Seats(
            LOOKUPS_AT_ONCE,
            lambda seats: f"{seats} lookups are being traced already; try again shortly",
            lambda seats: f"{seats} lookups of your address are being traced already; try again shortly",
        )

    def add(self, app: web.Application) -> None:
        """Add all but `GET /`, which the admin API shares with people who use curl."""
        app.router.add_get("/page/{name}", self._file)
        app.router.add_get(EVENTS_PATH, self._events, allow_head=False)
        app.router.add_get(LOOKUP_PATH, self._lookup)
        app[GATHERER] = self._gatherer
        app.on_shutdown.append(self._close)

    def index(self, request: web.Request) -> web.Response | None:
        """Return the page; None for who asks for plain text or JSON, or when the page is closed."""
        if not self._opened or request.headers.get("Accept", "").lower().startswith(("text/plain", "application/json")):
            return None
        return self._files["index.html"].answer(request)

    async def _file(self, request: web.Request) -> web.Response:
        self._must_be_open()
        file = self._files.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound(text="the page has no such file")
        return file.answer(request)

    async def _lookup(self, request: web.Request) -> web.Response:
        self._must_be_open()
        slots = self._source.slots()
        key = key_wanted(request.query.get("name"), request.query.get("key"), slots)
        with self._lookups.seat(source_of(request.remote or "")):
            found = await self._source.lookup(slot_of(key, slots))
        response = json_response(msgspec.structs.replace(found, key=f"{key:040x}"))
        response.headers.update({**PROTECTION, "Cache-Control": "no-store"})
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self._must_be_open()
        with self._gatherer.seat(source_of(request.remote or "")):
            response = web.StreamResponse(
                headers={**PROTECTION, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            )
            response.content_type, response.charset = "text/event-stream", "utf-8"
            await response.prepare(request)
            try:
                await self._tell(response)
            except TimeoutError:
                log.info("a ring page took nothing: cut off")
                if request.transport is not None:
                    request.transport.abort()
            except ConnectionError:
                pass  # It was closed, as pages are.
            return response

    async def _tell(self, response: web.StreamResponse) -> None:
        await _write(response, b"retry: %d\n\n" % RETRY_MS)
        told: Look | None = None
        while True:
            try:
                async with asyncio.timeout(BEAT):
                    now = await self._gatherer.after(told.number if told else 0)
            except TimeoutError:
                await _write(response, b"event: beat\ndata: {}\n\n")
                continue
            if now is None:
                await _write(response, event("bye", {"detail": "the node is stopping"}))
                return
            await _write(response, self._gatherer.change(told, now) if told else event("ring", now.snapshot))
            told = now

    def _must_be_open(self) -> None:
        if not self._opened:
            raise web.HTTPNotFound(text="the ring page is closed on this node; --page on opens it")

    async def _close(self, _: web.Application) -> None:
        self._gatherer.close()


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Send, and wait while the reader is behind. Raises TimeoutError when it stays so."""
    async with asyncio.timeout(PATIENCE):
        await response.write(data)
