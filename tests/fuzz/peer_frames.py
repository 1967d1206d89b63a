"""Frames of another node over a link that stands."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from hypothesis import strategies as st
from tests.fuzz import shapes
from tests.fuzz.engine import Found, Target
from tests.fuzz.place import RING, SOON, Place
from tests.fuzz.wire import pack

from coterie_protocol.chat import Forward
from coterie_protocol.client_api import PEER_PATH
from coterie_protocol.frames import PeerFrame, decode_peer, encode
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import Heartbeat, NodeRef, PeerHello, Ping, Pong
from coterie_protocol.replication import Offer, RecordsPage, Replicate

BEFORE, AFTER = (1 << 50) + 1, (1 << 50) + 2


class PeerFrames(Target):
    """A node of the ring says what no node would; what stands beside it in a message is answered."""

    name = "peer-frames"
    about = "frames of another node, with honest ones around them -> a whole node"
    shrinks = False

    def cases(self) -> st.SearchStrategy[bytes]:
        # Those that carry many items are the ones in which one may spoil the others.
        many = (Replicate, Offer, Forward, RecordsPage)
        frames = [shapes.of(PeerFrame), *(st.builds(_event, shapes.of(kind)) for kind in many)]
        return shapes.bytes_of(pack, st.one_of(frames))

    def begin(self, directory: Path) -> None:
        self.place = Place(directory)
        self.place.start()
        self._link: aiohttp.ClientWebSocketResponse | None = None
        self._links = 0

    def end(self) -> None:
        self.place.run(self._cut())
        self.place.stop()

    def feed(self, case: bytes) -> None:
        self.place.run(self._feed(case))
        self.place.check()

    async def _feed(self, case: bytes) -> None:
        link = await self._linked()
        around = [msgspec.msgpack.encode(PeerFrame(number, Ping())) for number in (BEFORE, AFTER)]
        await link.send_bytes(b"\x93" + around[0] + case + around[1])
        answered = await self._answers(link)
        if not answered:
            if _readable(case):
                raise Found("a frame that is one cut the link, or kept its neighbours from their answers")
            await self._cut()
        await self.place.alive()

    async def _answers(self, link: aiohttp.ClientWebSocketResponse) -> bool:
        """Say whether both honest requests are answered; False when the link was cut."""
        waiting = {-BEFORE, -AFTER}
        try:
            async with asyncio.timeout(SOON):
                while waiting:
                    message = await link.receive()
                    if message.type is not aiohttp.WSMsgType.BINARY:
                        return False
                    waiting -= {frame.id for frame in decode_peer(message.data) if isinstance(frame.body, Pong)}
        except TimeoutError:
            raise Found("a link stands, and nothing is answered over it") from None
        return True

    async def _linked(self) -> aiohttp.ClientWebSocketResponse:
        if self._link is None:
            self._links += 1
            url = f"ws://127.0.0.1:{self.place.peer}{PEER_PATH}"
            self._link = await self.place.http.ws_connect(url, max_msg_size=0)
            me = NodeRef(Uid(f"{self._links:032x}"), "raw", -1, "127.0.0.1", 1, 1, 1, 1)
            hello = PeerHello(1, 1, RING, 1, 16, me, f"boot{self._links}")
            await self._link.send_bytes(encode([PeerFrame(0, hello)]))
            await self._link.receive(timeout=SOON)
            await self._link.send_bytes(encode([PeerFrame(0, Heartbeat())]))
        return self._link

    async def _cut(self) -> None:
        if self._link is not None:
            await self._link.close()
            self._link = None


def _event(body: Any) -> list[Any]:
    return [0, body]


def _readable(case: bytes) -> bool:
    """Say whether these bytes are one frame, whatever its body: [number, anything]."""
    try:
        whole: Any = msgspec.msgpack.decode(case, type=tuple[int, msgspec.Raw])
        msgspec.msgpack.decode(whole[1])
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return False
    return bool(-(1 << 53) < whole[0] < 1 << 53)
