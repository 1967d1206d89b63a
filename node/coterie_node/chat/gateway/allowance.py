"""What one session may ask of a gateway, and make it keep, so that its flood is its own and not everybody's.

Each kind of request has a rate, counted in what it costs: items, names, bytes. What is beyond it is answered
RATE_LIMITED with the time to wait, and nothing more is read from that connection for a moment.
"""

from __future__ import annotations

from coterie_protocol.client_api import Archive, Discard, Lookup, Page, PresenceQuery, Request, States
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.weight import FRAME, weight_of_copy

from ..limits import TokenBucket, rate_limited
from ..settings import ChatSettings
from .names import Names
from .turns import Window

READ_FOR_ONE = 3
"""Bytes that come for one of a message: the message, its own copy, and that one's archive copy."""
ITEM_BYTES = 100
"""About how much an id or a name of a question costs while it is served."""
PAGE_BYTES = 512 * 1024
"""What the answer to Page may weigh."""


class Share:
    """What a session has under way at this gateway."""

    __slots__ = ("bytes", "entries", "questions", "questions_bytes", "window")

    def __init__(self) -> None:
        self.entries = 0
        """Messages without a result ..."""
        self.bytes = 0
        """... and what they weigh."""
        self.questions = 0
        """Other requests without an answer ..."""
        self.questions_bytes = 0
        """... and what they weigh."""
        self.window = Window()
        """The messages of these that are at owners."""


class Allowance:
    """The rates of one session: those of all its gateways together, divided by their number."""

    __slots__ = ("_by_kind", "_keep_bytes", "_keeps", "_read", "_send_bytes", "_sends", "_settings", "share")

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings
        sends, size = settings.sends_per_second, settings.bytes_per_second
        self._sends, self._keeps = _bucket(sends, 2), _bucket(sends, 2)
        self._send_bytes, self._keep_bytes = _bucket(size, 2), _bucket(size, 2)
        self._read = _bucket(READ_FOR_ONE * size, 2)
        self._by_kind: dict[str, TokenBucket] = {}
        """Of other requests, made when they are needed: most sessions ask little."""
        self.share = Share()

    @property
    def gateways(self) -> int:
        """Return at how many gateways the session is: there it has one rate, not one at each."""
        return self.share.window.places

    def shared(self, gateways: int) -> None:
        """Hear at how many gateways the session is."""
        self.share.window.places = max(1, gateways)

    def read(self, now: float, size: int) -> float:
        """Count bytes that have come, whatever they hold; return how many seconds nothing more should be read."""
        return self._read.spend(now, size * self.gateways)

    def message(self, now: float, weight: int, cost: float, *, own: bool) -> None:
        """Count a message (or the `own` copy of one). Raises RATE_LIMITED."""
        count, size = (self._keeps, self._keep_bytes) if own else (self._sends, self._send_bytes)
        weight, cost = weight * self.gateways, cost * self.gateways
        if wait := size.look(now, weight):
            raise rate_limited("bytes of one session", wait)
        if wait := count.take(now, cost):
            raise rate_limited("messages of one session", wait)
        size.take(now, weight)

    def question(self, now: float, request: Request, cost: float) -> None:
        """Count another request. Raises RATE_LIMITED."""
        what, per_second, seconds = _rate(request, self._settings)
        bucket = self._by_kind.get(what)
        if bucket is None:
            bucket = self._by_kind[what] = _bucket(per_second, seconds)
        if wait := bucket.take(now, cost * self.gateways):
            raise rate_limited(f"{what} of one session", wait)


def _rate(request: Request, settings: ChatSettings) -> tuple[str, float, float]:
    """Return what a request is counted among, how many of these a second, and of how many seconds at once."""
    match request:
        case Archive() | Discard():
            return "archive copies", settings.acknowledged_per_second, 1
        case States():
            return "states", settings.states_per_second, 5
        case PresenceQuery():
            return "names", settings.names_per_second, 10
        case Lookup():
            return "lookups", settings.lookups_per_second, 5
        case Page():
            return "pages", settings.pages_per_second, 5
        case _:
            return "requests", settings.others_per_second, 10


def _bucket(per_second: float, seconds: float) -> TokenBucket:
    return TokenBucket(seconds * per_second, 1.0 / per_second)


def session_busy() -> CoterieError:
    """Return the error for a session with too much under way."""
    return CoterieError("this session has too much under way; try again", code=ErrorCode.BUSY, value=200)


def cost_of(request: Request, names: Names) -> float:
    """Return how many tokens a request costs; a name that was not normalised lately costs more than one that was."""
    match request:
        case Archive() | Discard():
            fresh = {item[0] for item in request.items if item[0]}
            return 1 + len(request.items) + sum(names.cost(name) - 1 for name in fresh)
        case States():
            return names.cost(request.to) + len(request.ids)
        case PresenceQuery():
            return 1 + sum(map(names.cost, request.names))
        case Lookup():
            return names.cost(request.name)
        case _:
            return 1


def weight_of_question(request: Request) -> int:
    """Return what a request other than a message costs in memory while it is served, and its answer."""
    match request:
        case Archive():
            return FRAME + sum(ITEM_BYTES + weight_of_copy(sender, mid, copy) for sender, mid, _, copy in request.items)
        case Discard():
            return FRAME + 2 * ITEM_BYTES * len(request.items)
        case States():
            return FRAME + 2 * ITEM_BYTES * len(request.ids)
        case PresenceQuery():
            return FRAME + 3 * ITEM_BYTES * len(request.names)
        case Page():
            return PAGE_BYTES
        case _:
            return FRAME
