"""Every bound is enforced by the decoder: each field of each message is tried with values just outside of it."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from msgspec import inspect as mi
from tests.values import outside, within

from coterie_protocol import client_api, frames
from coterie_protocol.account import Account
from coterie_protocol.admin import Member, RingReport
from coterie_protocol.errors import FrameError
from coterie_protocol.parts import in_parts
from coterie_protocol.replication import Replicate

PEER = get_args(frames.PeerMessage)
REQUESTS = get_args(client_api.Request)
FROM_SERVERS = (*get_args(client_api.Reply), *get_args(client_api.Event))
OTHERS = (Account, RingReport, Member)
ITEM_BY_ITEM = ("Replicate.records", "RecordsPage.records", "Offer.records", "Forward.posts")


def name_of(kind: type) -> str:
    return f"{kind.__module__.split('.')[-1]}.{kind.__name__}"


def a_frame(number: int, body: Any) -> bytes:
    return msgspec.msgpack.encode([[1, body_of(client_api.Logout)], [number, body]])


def body_of(kind: type) -> Any:
    return within(mi.type_info(kind))


def cases(kind: type) -> list[tuple[str, Any]]:
    return list(outside(mi.type_info(kind), kind.__name__))


@pytest.mark.parametrize("kind", [*PEER, *REQUESTS, *FROM_SERVERS, *OTHERS], ids=name_of)
def test_what_is_within_is_taken_and_what_is_outside_is_not(kind: type) -> None:
    decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(kind)
    encode = msgspec.msgpack.encode
    decoder.decode(encode(body_of(kind)))
    taken = []
    for place, value in cases(kind):
        try:
            decoder.decode(encode(value))
        except msgspec.ValidationError:
            continue
        taken.append(place)
    assert taken == []


@pytest.mark.parametrize("kind", REQUESTS, ids=name_of)
def test_a_request_out_of_bounds_is_told_by_its_number_and_spoils_no_other(kind: type) -> None:
    for place, value in cases(kind):
        data = a_frame(7, value)
        if len(data) > client_api.MAX_CLIENT_FRAME_BYTES:
            continue  # That is what bounds it.
        told: list[int] = []
        read = frames.decode_client(data, lambda number, _, told=told: told.append(number))  # type: ignore[misc]
        assert ([frame.id for frame in read], told) == ([1], [7]), place


@pytest.mark.parametrize("kind", PEER, ids=name_of)
def test_a_frame_of_a_node_out_of_bounds_is_told_by_its_number_and_spoils_no_other(kind: type) -> None:
    ping = body_of(PEER[1])
    for place, value in cases(kind):
        told: list[int] = []
        data = msgspec.msgpack.encode([[1, ping], [-7, value]])
        read = frames.decode_peer(data, lambda number, _, told=told: told.append(number))  # type: ignore[misc]
        if place.startswith(ITEM_BY_ITEM):
            assert ([frame.id for frame in read], told) == ([1, -7], []), place
        else:
            assert ([frame.id for frame in read], told) == ([1], [-7]), place


@pytest.mark.parametrize("number", [0, -1, 1 << 53, 1 << 63, -(1 << 63)])
def test_a_client_s_request_without_a_number_of_its_own_breaks_the_protocol(number: int) -> None:
    with pytest.raises(FrameError):
        frames.decode_client(a_frame(number, body_of(client_api.Logout)), lambda number, why: None)


def test_a_kind_that_no_client_sends_breaks_the_protocol() -> None:
    for body in ([99], [60, 1, []], ["x"], []):
        with pytest.raises(FrameError):
            frames.decode_client(a_frame(7, body), lambda number, why: None)


def test_the_own_fields_of_a_frame_of_many_items_keep_their_bounds() -> None:
    for place, value in cases(Replicate):
        if not place.startswith("Replicate.records"):
            with pytest.raises(msgspec.ValidationError):
                in_parts(msgspec.msgpack.encode(value))
