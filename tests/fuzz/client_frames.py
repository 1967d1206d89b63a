"""Frames of a client with a valid session."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
from hypothesis import strategies as st
from tests.fuzz import shapes
from tests.fuzz.engine import Found, Target
from tests.fuzz.place import SOON, Place, register
from tests.fuzz.wire import pack
from tests.unit.api.lone_node import Peer

from coterie_protocol.client_api import ClientFrame, PresenceQuery, SessionGranted
from coterie_protocol.frames import decode_server, encode

LAST = (1 << 50) + 1
EVERY = 8
"""After so many cases two honest users talk to each other."""


class ClientFrames(Target):
    """Mallory has a session, and says what no client would."""

    name = "client-frames"
    about = "frames of a client with a valid session -> a whole node"
    shrinks = False

    def cases(self) -> st.SearchStrategy[bytes]:
        frames = st.lists(shapes.of(ClientFrame), min_size=1, max_size=3)
        return shapes.bytes_of(pack, frames)

    def begin(self, directory: Path) -> None:
        self.place = Place(directory)
        self.place.start()
        self._mallory: Peer | None = None
        self._fed = self._accounts = 0

    def end(self) -> None:
        self.place.run(self._hang_up())
        self.place.stop()

    def feed(self, case: bytes) -> None:
        self._fed += 1
        self.place.run(self._feed(case))
        self.place.check()

    def finish(self) -> None:
        self.place.run(self.place.honest())
        self.place.check()

    async def _feed(self, case: bytes) -> None:
        mallory = await self._session()
        await mallory.socket.send_bytes(case)
        await mallory.socket.send_bytes(encode([ClientFrame(LAST, PresenceQuery([]))]))
        if not await self._answered(mallory):
            await self._hang_up()
        if self._fed % EVERY == 0:
            await self.place.honest()
            await self.place.alive()

    async def _answered(self, mallory: Peer) -> bool:
        """Say whether the connection goes on; the node either answers what follows, or ends it."""
        try:
            async with asyncio.timeout(SOON):
                while True:
                    message = await mallory.socket.receive()
                    if message.type is not aiohttp.WSMsgType.BINARY:
                        return False
                    if any(frame.id == LAST for frame in decode_server(message.data)):
                        return True
        except TimeoutError:
            raise Found("the node neither answers nor ends the connection") from None

    async def _session(self) -> Peer:
        if self._mallory is None:
            self._mallory = await self.place.connect()
            self._accounts += 1
            granted: Any = await self._mallory.ask(register(f"mallory{self._accounts}"), SessionGranted)
            assert granted.epoch == 1
        return self._mallory

    async def _hang_up(self) -> None:
        if self._mallory is not None:
            await self._mallory.socket.close()
            self._mallory = None
