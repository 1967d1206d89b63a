"""Frames are encoded one by one when they are queued, and joined to one message when they are written.

So a frame's size is known at once (queues are bounded in bytes, messages close at a size), a message that cannot be
encoded is its sender's error, and what is queued cannot change any more. The result is what `frames.encode` makes of
the whole list: a msgpack array is its header and its elements.
"""

from __future__ import annotations

from typing import Any

import msgspec

from coterie_protocol.client_api import MAX_PEER_FRAME_BYTES
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.frames import PeerFrame, encode_frame

MAX_HEADER = 5
MAX_FRAME = MAX_PEER_FRAME_BYTES - MAX_HEADER
"""The largest frame that a message can carry."""


def pack(number: int, body: Any) -> bytes:
    """Encode one frame. Raises CoterieError: TOO_LARGE when no message could carry it, INTERNAL when it has no form."""
    try:
        data = encode_frame(PeerFrame(number, body))
    except (ValueError, TypeError, OverflowError, msgspec.MsgspecError) as error:  # UnicodeError is a ValueError.
        raise CoterieError(f"{type(body).__name__} cannot be encoded: {error}") from error
    if len(data) > MAX_FRAME:
        raise CoterieError(
            f"{type(body).__name__} of {len(data)} bytes; nodes send each other at most {MAX_FRAME}",
            code=ErrorCode.TOO_LARGE,
            value=MAX_FRAME,
        )
    return data
