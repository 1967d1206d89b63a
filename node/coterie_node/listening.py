"""Ports that take HTTP: opened with a clear error, closed without waiting for anybody."""

from __future__ import annotations

from aiohttp import web

SHUTDOWN_SECONDS = 1.0


class PortUnusable(Exception):
    """A port cannot be opened. The text names the address and the remedy."""


class Listener:
    """One application on one address."""

    def __init__(self, app: web.Application, host: str, port: int, what: str) -> None:
        self._host = host
        self._port = port
        self._what = what
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)

    async def start(self) -> None:
        """Listen. Raises PortUnusable."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port, backlog=1024).start()
        except OSError as error:
            await self._runner.cleanup()
            where = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
            raise PortUnusable(
                f"cannot listen for the {self._what} API on {where}: {error.strerror or error}; "
                f"stop what uses the address, or choose another with --listen-{self._what}"
            ) from None

    async def close(self) -> None:
        """Close the port and what is left of its connections."""
        await self._runner.cleanup()
