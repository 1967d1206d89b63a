"""Servers that the nodes of a ring have named: where else to go when none of one's own answers.

They are a hint and nothing more. They come after the servers that the user has named, only for the ring whose session
is resumed there, and are trusted no further: never in the clear where the user's own are not, never a port of this
machine unless the user's own are on it. The file is lost without harm; one that cannot be read counts as empty.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import msgspec

from coterie_protocol.bounds import RingUid
from coterie_protocol.urls import is_this_machine

from .addresses import check_server
from .errors import UsageError
from .private import check_ours, read_regular
from .replacing import replace

if TYPE_CHECKING:
    from .settings import Settings

MOST_SERVERS = 16
"""Of one ring; the newest."""
MOST_RINGS = 8
MAX_URL = 300
MAX_FILE = MOST_RINGS * MOST_SERVERS * (MAX_URL + 8) + 4096

_Urls = Annotated[list[Annotated[str, msgspec.Meta(max_length=MAX_URL)]], msgspec.Meta(max_length=MOST_SERVERS)]
_File = Annotated[dict[RingUid, _Urls], msgspec.Meta(max_length=MOST_RINGS)]


class KnownServers:
    """Reads and writes servers.json in COTERIE_HOME."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.home / "servers.json"
        self._insecure = settings.insecure
        self._exactly = settings.exactly
        hosts = [urlsplit(url) for url in settings.servers]
        self._clear = any(parts.scheme == "ws" for parts in hosts)
        self._local = any(is_this_machine(parts.hostname or "") for parts in hosts)
        self._rings: dict[str, list[str]] | None = None

    def of(self, ring_uid: str) -> list[str]:
        """Return the servers of a ring that may be used with the settings of today, none beside --servers."""
        return [] if self._exactly else [url for text in self._load().get(ring_uid, []) if (url := self._plain(text))]

    def remember(self, ring_uid: str, urls: Sequence[str]) -> None:
        """Keep what a node of a ring has named; what is already known costs nothing. Never raises."""
        rings = self._load()
        before = rings.get(ring_uid, [])
        named = [url for text in urls[: 4 * MOST_SERVERS] if (url := self._plain(text))]
        now = list(dict.fromkeys([*named, *before]))[:MOST_SERVERS]
        if set(now) == set(before):
            return
        kept = [(uid, known) for uid, known in rings.items() if uid != ring_uid][-MOST_RINGS + 1 :]
        self._rings = dict([*kept, (ring_uid, now)])
        with contextlib.suppress(OSError):
            replace(self._path, msgspec.json.format(msgspec.json.encode(self._rings)))

    def _plain(self, text: str) -> str:
        """Return an address in its plain form; empty if it may not be used with the settings of today."""
        if len(text) > MAX_URL - 8 or not text.isascii() or not text.isprintable():
            return ""
        try:
            url = check_server(text, insecure=self._insecure)
        except UsageError:
            return ""
        parts = urlsplit(url)
        safe = (parts.scheme == "wss" or self._clear) and (self._local or not is_this_machine(parts.hostname or ""))
        return url if safe else ""

    def _load(self) -> dict[str, list[str]]:
        if self._rings is None:
            try:
                check_ours(self._path, "the list of servers")
                self._rings = msgspec.json.decode(read_regular(self._path, MAX_FILE), type=_File)
            except (OSError, UsageError, msgspec.MsgspecError, UnicodeError):
                self._rings = {}
        return self._rings
