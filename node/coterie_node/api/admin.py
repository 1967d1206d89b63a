"""The admin API (port 7402): what operators, `coterie ring` and people with curl ask a node.

Reading is open; what changes anything needs the bearer token of `--admin-token-file`. Errors are JSON:
`{"error": code, "detail": sentence}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import structlog
from aiohttp import web

from coterie_protocol.bounds import RingUidOrNone, SlotNumber
from coterie_protocol.errors import CoterieError, ErrorCode

from ..http.guard import Guarded
from ..http.origins import Hosts, known_hosts_only, same_site_only, source_of
from ..logs.ration import Ration
from ..watched import WatchedFile
from .health import HEALTH_PATHS, add_health, json_response
from .metrics.exposition import METRICS_PATH, Exposition, add_metrics
from .ring_page import EVENTS_PATH, PageSource, RingPage
from .token import authorise

if TYPE_CHECKING:
    from coterie_protocol.admin import Operation, RecoveryReport, SlotReport

log = structlog.get_logger()

SLOT_STATES = ("plain", "joint", "under_replicated", "stray")
MAX_BODY_BYTES = 64 * 1024
AT_ONCE = 64
"""Requests that are answered at the same time; some ask every node of the ring."""
REQUEST_TIMEOUT = 30.0
"""Seconds for a question, and for the body of a change."""

UNBOUNDED_PATHS = (*HEALTH_PATHS, METRICS_PATH, EVENTS_PATH)
"""Health and metrics wait for nobody, and are needed most when much else is asked; a stream of events goes on for as
long as somebody reads it, and is counted by the page."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_STATUS = {
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.FORMING: 503,
    ErrorCode.BUSY: 409,
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.BAD_NAME: 400,
    ErrorCode.TOO_LARGE: 413,
}


class NodeView(PageSource, Protocol):
    """What the admin API shows and does; api/view.py implements it over the node's rooms."""

    async def slot_reports(self, state: str | None) -> list[SlotReport]:
        """Report on the slots that this node knows of, all or those in one of SLOT_STATES."""
        ...

    async def operations(self) -> list[Operation]:
        """Report on this node's long work."""
        ...

    async def leave(self) -> None:
        """Begin to leave the ring; again is harmless. Raises CoterieError if it cannot."""
        ...

    async def cancel_leave(self) -> None:
        """Stay after all. Raises CoterieError when the node has left already."""
        ...

    async def move(self, position: int) -> None:
        """Stand at another slot's first identifier. Raises CoterieError."""
        ...

    async def recover(self, ring_uid: str | None) -> RecoveryReport:
        """Begin slots anew that lost their majority for good; None only looks. Raises CoterieError."""
        ...


class _Move(msgspec.Struct):
    position: SlotNumber


class _Recover(msgspec.Struct):
    accept_loss: bool = False
    ring_uid: RingUidOrNone = ""


def admin_app(
    view: NodeView,
    token: str | WatchedFile | None,
    exposition: Exposition | None = None,
    *,
    page: bool = True,
    names: Iterable[str] = (),
) -> web.Application:
    """Build the application of the admin port. Without a token every change is refused; `page` opens the ring page.

    It answers to `names` (`origins.Hosts`), to addresses and to `localhost`.
    """
    doors = (known_hosts_only(Hosts(names)), same_site_only())
    app = web.Application(middlewares=[_json_errors(), *doors, _bounded()], client_max_size=MAX_BODY_BYTES)
    add_health(app, view.readiness)
    _add_reports(app, view, RingPage(view, opened=page))
    _add_changes(app, view, token)
    if exposition is not None:
        add_metrics(app, exposition)
    return app


def _add_reports(app: web.Application, view: NodeView, page: RingPage) -> None:
    async def index(request: web.Request) -> web.Response:
        if (shown := page.index(request)) is not None:
            return shown
        found = await view.node_report()
        if request.headers.get("Accept", "").lower().startswith("application/json"):
            answer = json_response(found)
            answer.headers["Vary"] = "Accept"
            return answer
        return web.Response(
            text=_INDEX.format(name=found.name, version=found.version, state=found.state), headers={"Vary": "Accept"}
        )

    async def node(_: web.Request) -> web.Response:
        return json_response(await view.node_report())

    async def ring(_: web.Request) -> web.Response:
        return json_response(await view.ring_report())

    async def slots(request: web.Request) -> web.Response:
        state = request.query.get("state")
        if state is not None and state not in SLOT_STATES:
            raise CoterieError(
                f"no slot state {state!r}: use one of {', '.join(SLOT_STATES)}", code=ErrorCode.BAD_REQUEST
            )
        return json_response(await view.slot_reports(state))

    async def operations(_: web.Request) -> web.Response:
        return json_response(await view.operations())

    app.router.add_get("/", index)
    page.add(app)
    app.router.add_get("/api/v1/node", node)
    app.router.add_get("/api/v1/ring", ring)
    app.router.add_get("/api/v1/slots", slots)
    app.router.add_get("/api/v1/operations", operations)


def _add_changes(app: web.Application, view: NodeView, token: str | WatchedFile | None) -> None:
    def accepted() -> web.Response:
        return json_response({"state": view.readiness().state}, 202)

    async def leave(request: web.Request) -> web.Response:
        authorise(request, token)
        await view.leave()
        return accepted()

    async def cancel_leave(request: web.Request) -> web.Response:
        authorise(request, token)
        await view.cancel_leave()
        return accepted()

    async def move(request: web.Request) -> web.Response:
        authorise(request, token)
        try:
            wanted = msgspec.json.decode(await request.read(), type=_Move)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise CoterieError(f'the body must be {{"position": SLOT}}: {error}', code=ErrorCode.BAD_REQUEST) from None
        await view.move(wanted.position)
        return accepted()

    async def recover(request: web.Request) -> web.Response:
        authorise(request, token)
        try:
            wanted = msgspec.json.decode(await request.read() or b"{}", type=_Recover)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise CoterieError(
                f'the body must be {{"accept_loss": true, "ring_uid": UID}}, or {{}} to look: {error}',
                code=ErrorCode.BAD_REQUEST,
            ) from None
        return json_response(await view.recover(wanted.ring_uid if wanted.accept_loss else None))

    app.router.add_post("/api/v1/leave", leave)
    app.router.add_post("/api/v1/recover", recover)
    app.router.add_post("/api/v1/cancel-leave", cancel_leave)
    app.router.add_post("/api/v1/move", move)


def _bounded() -> Any:
    """Bound how many requests are answered at once, and for how long, but for those that are bounded otherwise."""
    under_way = 0

    @web.middleware
    async def bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal under_way
        refusal = request.protocol.refusal if isinstance(request.protocol, Guarded) else ""
        if refusal and request.path not in HEALTH_PATHS:
            raise web.HTTPServiceUnavailable(text=refusal, headers={"Retry-After": "1", "Connection": "close"})
        if request.path in UNBOUNDED_PATHS:
            return await handler(request)
        if under_way >= AT_ONCE:
            raise web.HTTPServiceUnavailable(
                text=f"the node answers {AT_ONCE} requests already; try again shortly", headers={"Retry-After": "1"}
            )
        under_way += 1
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await request.read()
                if request.method == "GET":
                    return await handler(request)
        except TimeoutError:
            raise web.HTTPRequestTimeout(text=f"the request took more than {REQUEST_TIMEOUT:g} s") from None
        else:
            return await handler(request)  # A change that is under way is not broken off.
        finally:
            under_way -= 1

    return bounded


def _json_errors() -> Any:
    """Turn whatever goes wrong into JSON; what was not foreseen is logged."""
    failed = Ration(log.error, "admin request failed")

    @web.middleware
    async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            response = _error(error.reason.lower().replace(" ", "_"), error.text or error.reason, error.status)
            for header in ("Allow", "Connection", "Retry-After", "WWW-Authenticate"):
                if header in error.headers:
                    response.headers[header] = error.headers[header]
            return response
        except CoterieError as error:
            return _error(error.wire_code.name.lower(), error.detail, _STATUS.get(error.wire_code, 500))
        except Exception as error:
            if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
                return web.Response()  # The client has gone: there is nobody to answer, and nothing has failed.
            failed(source_of(request.remote or ""), path=request.path, exc_info=True)
            return _error("internal", f"the node failed ({type(error).__name__}); its log says how", 500)

    return json_errors


def _error(code: str, detail: str, status: int) -> web.Response:
    return json_response({"error": code, "detail": detail}, status)


_INDEX = """\
Coterie node {name}, version {version}: {state}

GET  /livez /readyz /metrics
GET  /                       the ring page; this list for Accept: text/plain, /api/v1/node for application/json
GET  /api/v1/events /api/v1/lookup?name=USER|key=SLOT         what the page reads
GET  /api/v1/node /api/v1/ring /api/v1/slots?state=plain|joint|under_replicated|stray /api/v1/operations
POST /api/v1/leave /api/v1/cancel-leave /api/v1/move {{"position": SLOT}}    (with the admin token)
POST /api/v1/recover {{}} to look, {{"accept_loss": true, "ring_uid": UID}}    (with the admin token)
"""
