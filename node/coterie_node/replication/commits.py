"""Where records that this node has newly stored are announced, whatever brought them: append, repair or an offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coterie_protocol.records import Record

from ..telling import tell

Watcher = Callable[[Sequence[Record]], None]


class Arrivals:
    """Announces records after their fsync; chat listens, and pushes them to the sessions attached here."""

    def __init__(self) -> None:
        self._watchers: list[Watcher] = []

    def watch(self, watcher: Watcher) -> None:
        """Call back with each batch of records that changed what this node holds."""
        self._watchers.append(watcher)

    def publish(self, records: Sequence[Record]) -> None:
        """Announce records that are on disk."""
        if records:
            tell(self._watchers, records)
