"""Frames: what is written is read; what is not a frame is a FrameError and nothing else."""

import contextlib
from types import UnionType
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie_protocol import client_api, frames
from coterie_protocol.client_api import MAX_CLIENT_FRAME_BYTES, ClientFrame, Mail, MailItem, Send, ServerFrame, Stored
from coterie_protocol.errors import CoterieError, ErrorCode, FrameError, StaleEpoch, Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import Ballot, Config, ConfigPrepare, KnownConfig


def test_frames_of_one_turn_travel_together() -> None:
    sent = [frames.PeerFrame(n, ConfigPrepare([(n, Ballot(n, "p"))])) for n in range(3)]
    assert frames.decode_peer(frames.encode(sent)) == sent
    requests = [ClientFrame(1, Send("bob", b"i" * 16, b"\x00body"))]
    assert frames.decode_client(frames.encode(requests)) == requests
    item = MailItem("alice", b"i" * 16, 0, 0, b"body", b"", 1, 2)
    answers = [ServerFrame(1, Stored(5, 2)), ServerFrame(0, Mail([item]))]
    assert frames.decode_server(frames.encode(answers)) == answers


@given(st.binary(max_size=200))
def test_garbage_is_a_frame_error(data: bytes) -> None:
    for decode in (frames.decode_peer, frames.decode_client, frames.decode_server):
        with contextlib.suppress(FrameError):
            decode(data)


def test_deep_nesting_is_a_frame_error() -> None:
    with pytest.raises(FrameError):
        frames.decode_client(b"\x91" * 100_000)


def test_an_oversized_frame_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameError, match="the limit is"):
        frames.decode_client(bytes(MAX_CLIENT_FRAME_BYTES + 1))


@pytest.mark.parametrize("union", [frames.PeerMessage, client_api.Request, client_api.Reply | client_api.Event])
def test_every_message_of_a_union_has_a_tag_of_its_own(union: UnionType) -> None:
    tags = [kind.__struct_config__.tag for kind in get_args(union)]
    assert None not in tags
    assert len(tags) == len(set(tags)) > 5


def test_errors_come_back_as_what_they_were() -> None:
    known = KnownConfig(7, Ballot(2, "p"), Config(3, Ballot(2, "p"), (), (Uid("a"),)))
    errors: list[CoterieError] = [
        StaleEpoch((known,)),
        Unavailable("no quorum"),
        CoterieError("slow down", code=ErrorCode.RATE_LIMITED, value=250),
    ]
    for error in errors:
        back = frames.exception_of(frames.peer_error_of(error))
        assert type(back) is type(error)
        assert (back.wire_code, back.detail, back.value) == (error.wire_code, error.detail, error.value)
    stale = frames.exception_of(frames.peer_error_of(errors[0]))
    assert isinstance(stale, StaleEpoch)
    assert stale.known == (known,)
    unknown = frames.exception_of(frames.PeerError(9999, "from the future"))
    assert unknown.wire_code is ErrorCode.INTERNAL
