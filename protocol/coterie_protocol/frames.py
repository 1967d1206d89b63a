"""Frames: one binary WebSocket message is a msgpack array of frames, so that what is ready together travels together.

A decoder refuses what is too large, what does not decode and what is of no known kind with a FrameError; it never
raises anything else. Where only values are wrong (bounds.py) that is a BadValues, which carries the other frames: one
bad item must not take others with it. The WebSocket layer bounds the size before a message is assembled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, get_args

import msgspec

from .admin_messages import AdminMessage
from .bounds import Asked, Code, Count, FrameNumber, Frames, Items, PerSlot, Sentence, sentence
from .chat import ChatMessage
from .client_api import (
    MAX_CLIENT_FRAME_BYTES,
    MAX_CLIENT_FRAMES,
    MAX_PEER_FRAME_BYTES,
    ClientFrame,
    Error,
    Request,
    ServerFrame,
)
from .errors import CoterieError, ErrorCode, FrameError, StaleEpoch, Unavailable
from .nodes import Heartbeat, PeerHello, Ping, Pong, Refs, WhoIs
from .parts import in_parts
from .recovery import RecoveryMessage
from .registers import (
    AccountAccept,
    AccountAccepted,
    AccountList,
    AccountPrepare,
    AccountPromises,
    AccountRead,
    ConfigAccept,
    ConfigEpochs,
    ConfigKnown,
    ConfigLearn,
    ConfigPrepare,
    ConfigPromises,
    ConfigQuery,
    KnownConfig,
)
from .replication import (
    BucketDigests,
    BucketDigestsReply,
    ClockTold,
    Confirmed,
    DropTombstones,
    FetchRecords,
    ListVersions,
    Offer,
    RecordsPage,
    Replicate,
    Replicated,
    SlotDigests,
    SlotDigestsReply,
    SyncState,
    SyncStates,
    TombstonesAgreed,
    VersionsPage,
)
from .ring import RingMessage

PEER_VERSION_LOW = 1
PEER_VERSION_HIGH = 1
Unreadable = Callable[[int, str], None]
"""Takes the number of a frame that is not understood, and why."""


class PeerError(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """A request between nodes failed. `known` belongs to STALE_EPOCH."""

    code: Code
    detail: Sentence
    value: Count = 0
    known: Annotated[tuple[KnownConfig, ...], PerSlot] = ()


PeerMessage = (
    PeerHello | Ping | Pong | Heartbeat | Refs | WhoIs | PeerError
    | ConfigPrepare | ConfigPromises | ConfigAccept | ConfigLearn | ConfigQuery | ConfigKnown | ConfigEpochs
    | AccountPrepare | AccountPromises | AccountAccept | AccountAccepted | AccountRead | AccountList
    | Replicate | Replicated | SlotDigests | SlotDigestsReply | BucketDigests | BucketDigestsReply
    | ListVersions | VersionsPage | FetchRecords | RecordsPage | Offer | Confirmed | SyncState | SyncStates
    | RecoveryMessage
    | ClockTold | DropTombstones | TombstonesAgreed
    | RingMessage | ChatMessage | AdminMessage
)  # fmt: skip


class PeerFrame(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A frame between nodes: `id` > 0 is a request, `id` < 0 the answer to request -id, 0 an event."""

    id: FrameNumber
    body: PeerMessage


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    """A frame whose body is not looked at yet."""

    id: FrameNumber
    body: Annotated[msgspec.Raw, msgspec.Meta(extra={"bound": "a part of a message that is bounded"})]


class _Tagged(msgspec.Struct, array_like=True, frozen=True):
    """The first element of every body."""

    tag: Code


_encoder = msgspec.msgpack.Encoder()
_peer = msgspec.msgpack.Decoder(Annotated[list[PeerFrame], Frames])
_client = msgspec.msgpack.Decoder(Annotated[list[ClientFrame], Asked])
_server = msgspec.msgpack.Decoder(Annotated[list[ServerFrame], Items])
_envelopes = msgspec.msgpack.Decoder(Annotated[list[_Envelope], Frames])
_peer_body: msgspec.msgpack.Decoder[PeerMessage] = msgspec.msgpack.Decoder(PeerMessage)
_client_body: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_tagged = msgspec.msgpack.Decoder(_Tagged)
_REQUEST_TAGS = frozenset(kind.__struct_config__.tag for kind in get_args(Request))
_BROKEN = (msgspec.MsgspecError, RecursionError, UnicodeError)


def encode(frames: Sequence[PeerFrame] | Sequence[ClientFrame] | Sequence[ServerFrame]) -> bytes:
    """Write frames as one WebSocket message."""
    return _encoder.encode(frames)


def encode_frame(frame: PeerFrame | ClientFrame | ServerFrame) -> bytes:
    """Write one frame, to be joined with others to a message: so its size is known when it is queued."""
    return _encoder.encode(frame)


def join(frames: Sequence[bytes]) -> bytes:
    """Make encoded frames one WebSocket message: what `encode` makes of the whole list."""
    count = len(frames)
    if count < 16:
        header = bytes((0x90 | count,))
    elif count < 1 << 16:
        header = b"\xdc" + count.to_bytes(2, "big")
    else:
        header = b"\xdd" + count.to_bytes(4, "big")
    return header + b"".join(frames)


def decode_peer(data: bytes, unreadable: Unreadable | None = None) -> list[PeerFrame]:
    """Read frames that another node sent; raises FrameError.

    With `unreadable` a frame whose body is not understood does not spoil the others of its message: it is left out, and
    told with its number and the reason. Nor does one of many items (parts.py): its taker looks.
    """
    _check(data, MAX_PEER_FRAME_BYTES)
    try:
        return _peer.decode(data)
    except _BROKEN as error:
        if unreadable is None:
            raise FrameError(f"not a frame of this protocol: {error}") from None
    frames = []
    for envelope in _read_envelopes(data):
        try:
            frames.append(PeerFrame(envelope.id, _peer_body.decode(envelope.body)))
        except _BROKEN as error:
            try:
                frames.append(PeerFrame(envelope.id, in_parts(envelope.body)))
            except _BROKEN:
                unreadable(envelope.id, str(error))
    return frames


def decode_client(data: bytes, unreadable: Unreadable | None = None) -> list[ClientFrame]:
    """Read frames that a client sent; raises FrameError.

    With `unreadable` a request of a known kind that holds what it must not does not spoil the others of its message: it
    is left out, and told with its number and the reason.
    """
    _check(data, MAX_CLIENT_FRAME_BYTES)
    if (count := _count(data)) > MAX_CLIENT_FRAMES:
        raise FrameError(f"{count} frames in one message; the limit is {MAX_CLIENT_FRAMES}")
    try:
        return _client.decode(data)
    except _BROKEN as error:
        if unreadable is None:
            raise FrameError(f"not a frame of this protocol: {error}") from None
    frames = []
    for envelope in _read_envelopes(data):
        if envelope.id < 1 or _tag_of(envelope.body) not in _REQUEST_TAGS:
            raise FrameError(f"not a request of this protocol: its number is {envelope.id}, or its kind unknown")
        try:
            frames.append(ClientFrame(envelope.id, _client_body.decode(envelope.body)))
        except (msgspec.ValidationError, UnicodeError) as error:
            unreadable(envelope.id, str(error))
        except _BROKEN as error:
            raise FrameError(f"not a frame of this protocol: {error}") from None
    return frames


def _tag_of(body: msgspec.Raw) -> int:
    """Return a body's tag; 0, which is none, where there is none."""
    try:
        return _tagged.decode(body).tag
    except _BROKEN:
        return 0


def _read_envelopes(data: bytes) -> list[_Envelope]:
    try:
        return _envelopes.decode(data)
    except _BROKEN as error:
        raise FrameError(f"not a frame of this protocol: {error}") from None


def decode_server(data: bytes) -> list[ServerFrame]:
    """Read frames that a gateway sent; raises FrameError."""
    try:
        return _server.decode(data)
    except _BROKEN as error:
        raise FrameError(f"not a frame of this protocol: {error}") from None


def _check(data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise FrameError(f"a frame of {len(data)} bytes; the limit is {limit}")


def _count(data: bytes) -> int:
    """Return how many frames a message says it has; 0 when it is no array, which the decoder says better."""
    first = data[:1]
    if first == b"\xdc":
        return int.from_bytes(data[1:3], "big")
    if first == b"\xdd":
        return int.from_bytes(data[1:5], "big")
    return 0


def error_of(error: CoterieError) -> Error:
    """Write an error for a client."""
    return Error(int(error.wire_code), sentence(error.detail), error.value)


def peer_error_of(error: CoterieError) -> PeerError:
    """Write an error for another node."""
    known = error.known if isinstance(error, StaleEpoch) else ()
    return PeerError(int(error.wire_code), sentence(error.detail), error.value, known)


def exception_of(error: Error | PeerError) -> CoterieError:
    """Read an error as the exception that it was; an unknown code becomes INTERNAL."""
    try:
        code = ErrorCode(error.code)
    except ValueError:
        code = ErrorCode.INTERNAL
    if code is ErrorCode.STALE_EPOCH and isinstance(error, PeerError):
        return StaleEpoch(error.known)
    if code is ErrorCode.UNAVAILABLE:
        return Unavailable(error.detail)
    if code is ErrorCode.BAD_FRAME:
        return FrameError(error.detail)
    return CoterieError(error.detail, code=code, value=error.value)
