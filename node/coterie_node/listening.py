"""Ports that take HTTP: opened with a clear error, closed without waiting for anybody."""

from __future__ import annotations

from aiohttp import web

from .config import Address

BACKLOG = 1024


class ListenError(Exception):
    """A port cannot be opened: the node cannot run. The text names the address and the remedy."""


class Port:
    """One application on one address. `whom` and `flag` are for the error: who is listened for, and how to move."""

    def __init__(
        self, app: web.Application, address: Address, whom: str, flag: str, *, shutdown_timeout: float = 1.0
    ) -> None:
        self._address = address
        self._whom = whom
        self._flag = flag
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=shutdown_timeout)

    async def start(self) -> int:
        """Listen, and return the port (which the system chose when it was 0). Raises ListenError."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._address.host, self._address.port, backlog=BACKLOG).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ListenError(
                f"cannot listen for {self._whom} on {self._address}: {error.strerror or error}; "
                f"stop what uses the address, or choose another with {self._flag}"
            ) from None
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Take no more connections; those that stand go on."""
        for site in list(self._runner.sites):
            await site.stop()

    async def close(self) -> None:
        """Close the port and what is left of its connections."""
        await self._runner.cleanup()
