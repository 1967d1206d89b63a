"""The hello of two nodes: do they belong together? Pure rules, and the messages that carry them.

    dialler                              acceptor
    [PeerHello]            ──────────►   checks
               ◄──────────               [PeerHello]              come in, or
                                         [PeerHello, PeerError]   refused, and this is who refused
    checks; its first frames ────────►   the link stands

The acceptor takes the link for standing only when the dialler's first frames are there: the dialler, who sees all of
its own links, may find that it needs this one no more, and closes it before anything has travelled on it.
"""

from __future__ import annotations

import msgspec

from coterie_protocol.errors import CoterieError, ErrorCode, FrameError
from coterie_protocol.frames import (
    PEER_VERSION_HIGH,
    PEER_VERSION_LOW,
    PeerError,
    PeerFrame,
    decode_peer,
    encode,
    peer_error_of,
)
from coterie_protocol.nodes import PeerHello
from coterie_protocol.words import counted

from .errors import Refused


def first_message(hello: PeerHello, *, probe: bool = False) -> bytes:
    """Write the dialler's hello."""
    return encode([PeerFrame(0, msgspec.structs.replace(hello, probe=probe))])


def answer(hello: PeerHello, refusal: CoterieError | None = None) -> bytes:
    """Write the acceptor's hello, and why it refuses."""
    frames = [PeerFrame(0, hello)]
    if refusal is not None:
        frames.append(PeerFrame(0, peer_error_of(refusal)))
    return encode(frames)


def read(data: bytes) -> tuple[PeerHello, PeerError | None]:
    """Read either side's hello. Raises FrameError."""
    frames = decode_peer(data)
    if not frames or not isinstance(hello := frames[0].body, PeerHello):
        raise FrameError("the first frame is not a hello")
    refusal = frames[1].body if len(frames) > 1 else None
    if refusal is not None and not isinstance(refusal, PeerError):
        raise FrameError("something follows the hello")
    return hello, refusal


def check(mine: PeerHello, theirs: PeerHello) -> Refused | None:
    """Say why two nodes must not be linked; None when they may, or when there is nothing to refuse (`belong`)."""
    who = f"{theirs.node.name or theirs.node.uid} at {theirs.node.address}"
    if theirs.version_low > PEER_VERSION_HIGH or theirs.version_high < PEER_VERSION_LOW:
        return Refused(
            f"{who} speaks the versions {theirs.version_low} to {theirs.version_high} of the peer protocol, this node "
            f"{PEER_VERSION_LOW} to {PEER_VERSION_HIGH}; upgrade the older one",
            ErrorCode.UNSUPPORTED_VERSION,
            theirs,
        )
    if not belong(mine, theirs):
        return None
    if mine.ring_uid != theirs.ring_uid:
        return Refused(
            f"{who} belongs to ring {theirs.ring_uid}, this node to {mine.ring_uid}; "
            "check the seeds, or give the node that is wrong an empty --data-dir",
            ErrorCode.WRONG_RING,
            theirs,
        )
    if (mine.replication_factor, mine.slots) != (theirs.replication_factor, theirs.slots):
        return Refused(
            f"{who} has replication factor {theirs.replication_factor} and {counted(theirs.slots, 'slot')}, this node "
            f"{mine.replication_factor} and {mine.slots}; both are the founder's and cannot be changed",
            ErrorCode.WRONG_SETTINGS,
            theirs,
        )
    return None


def belong(mine: PeerHello, theirs: PeerHello) -> bool:
    """Say whether both belong to a ring.

    Where one does not, the hellos are all that is said: they tell a node that looks for a ring which one is there, and
    a stranger no more than that. A link is made once the node says the ring's uid.
    """
    return bool(mine.ring_uid and theirs.ring_uid)


def refused(theirs: PeerHello, error: PeerError) -> Refused:
    """Read the refusal of a peer."""
    try:
        code = ErrorCode(error.code)
    except ValueError:
        code = ErrorCode.INTERNAL
    return Refused(error.detail, code, theirs)


def twin(theirs: PeerHello) -> Refused:
    """Return the error for a node that says it is this one and is not: both could vote under one name."""
    return Refused(
        f"{theirs.node.address} runs with a copy of this node's data directory (uid {theirs.node.uid}); "
        "stop one of the two and give it an empty --data-dir",
        ErrorCode.WRONG_SETTINGS,
        theirs,
    )
