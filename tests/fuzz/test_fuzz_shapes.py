"""The strategies: every message of the wire is made, valid ones are valid, and one field at a time is spoilt."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, seed, settings
from tests.fuzz import shapes
from tests.fuzz.loose import Loose
from tests.fuzz.wire import pack

from coterie_protocol.client_api import Event, Reply, Request
from coterie_protocol.frames import PeerMessage

KINDS: list[type] = [kind for union in (Request, Reply, Event, PeerMessage) for kind in get_args(union)]
FEW = settings(max_examples=5, database=None, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("kind", dict.fromkeys(KINDS), ids=lambda kind: kind.__name__)
def test_every_message_of_the_wire_is_made_and_is_valid(kind: type) -> None:
    decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(kind)

    @seed(1)
    @FEW
    @given(shapes.of(kind))
    def valid(value: Any) -> None:
        found = decoder.decode(pack(value))
        assert type(found) is kind
        assert Loose(kind).decode(pack(value)) == found

    valid()


def test_all_kinds_of_a_union_are_found() -> None:
    assert set(shapes.members(Request)) == set(get_args(Request))


def test_a_value_is_spoilt_in_one_place() -> None:
    differing = []

    @seed(1)
    @settings(FEW, max_examples=50)
    @given(shapes.spoilt(shapes.of(get_args(Request)[0])))
    def spoilt(value: Any) -> None:
        try:
            msgspec.msgpack.decode(pack(value), type=get_args(Request)[0])
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            differing.append(value)

    spoilt()
    assert differing
