"""Tells the user of a lasting command that there is no server, and that there is one again; each once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from .connection import Connected, Failed, Serverless

if TYPE_CHECKING:
    from .connection import Connection, Notice

BRIEF = 1.0
"""Seconds without a server that nobody needs to hear of: one restarts, another takes over."""


class Watch:
    """Listens to a connection for as long as that lasts."""

    def __init__(self, connection: Connection, say: Callable[[str], None]) -> None:
        self._connection = connection
        self._say = say
        self._told = False
        self._timer: asyncio.TimerHandle | None = None
        self._reason = ""
        connection.listen(self._hear)

    def _hear(self, notice: Notice) -> None:
        match notice:
            case Serverless(error=error):
                self._reason = error.reason
                if self._timer is None and not self._told:
                    self._timer = asyncio.get_running_loop().call_later(BRIEF, self._tell)
            case Connected():
                self._stop()
                if self._told:
                    self._told = False
                    self._say(f"coterie: there is a server again: {self._connection.url}")
            case Failed():
                self._stop()
            case _:
                pass

    def _tell(self) -> None:
        self._timer = None
        self._told = True
        self._say(f"coterie: {self._reason}; still trying")

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
