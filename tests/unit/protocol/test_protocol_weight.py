"""What an item weighs is an upper bound of its length, and a close one, whatever others put in its fields."""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie_protocol import weight
from coterie_protocol.chat import Deliver, Forward, Forwarded, Post, Push
from coterie_protocol.client_api import Done, MailItem, ServerFrame
from coterie_protocol.frames import PeerFrame, encode, encode_frame, join
from coterie_protocol.records import Record, Version
from coterie_protocol.registers import AccountBallot, AccountPromise, AccountPromises
from coterie_protocol.replication import Offer, RecordsPage, Replicate

INTS = st.integers(-(1 << 63), (1 << 64) - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.just("é" * 40_000)
BLOBS = st.binary(max_size=300) | st.sampled_from([b"", bytes(255), bytes(256), bytes(65_535), bytes(65_536)])
BALLOTS = st.builds(AccountBallot, INTS, INTS, TEXTS)


def of_fields(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Make a struct with anything at all in its fields: what weighs it must know them all."""
    by_type: dict[Any, st.SearchStrategy[Any]] = {
        int: INTS, str: TEXTS, bytes: BLOBS, AccountBallot: BALLOTS, NoneType: st.none(),
    }  # fmt: skip
    fields = msgspec.structs.fields(kind)
    return st.builds(kind, **{field.name: _strategy(by_type, field.type) for field in fields})


def _strategy(by_type: dict[Any, st.SearchStrategy[Any]], kind: Any) -> st.SearchStrategy[Any]:
    if get_origin(kind) in (Union, UnionType):
        return st.one_of([_strategy(by_type, one) for one in get_args(kind)])
    while hasattr(kind, "__metadata__"):  # Annotated: a bound beside the type does not change what it weighs.
        kind = kind.__origin__
    return by_type[getattr(kind, "__supertype__", kind)]


WEIGHERS: list[tuple[str, st.SearchStrategy[Any], Callable[[Any], int]]] = [
    ("record", of_fields(Record), weight.weight_of_record),
    ("version", of_fields(Version), weight.weight_of_version),
    ("mail item", of_fields(MailItem), weight.weight_of_mail_item),
    ("post", of_fields(Post), weight.weight_of_post),
    ("account", of_fields(AccountPromise), weight.weight_of_promise),
    ("copy", st.tuples(TEXTS, BLOBS, INTS, BLOBS), lambda one: weight.weight_of_copy(one[0], one[1], one[3])),
    (
        "receipt",
        st.tuples(TEXTS, TEXTS, BLOBS, INTS, INTS),
        lambda one: weight.weight_of_receipt(one[0], one[1], one[2]),
    ),
    ("refusal", st.tuples(INTS, INTS, TEXTS, INTS), lambda one: weight.weight_of_refusal(one[2])),
]


@pytest.mark.parametrize(("items", "weigh"), [one[1:] for one in WEIGHERS], ids=[one[0] for one in WEIGHERS])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_weight_is_a_close_upper_bound(
    items: st.SearchStrategy[Any], weigh: Callable[[Any], int], data: st.DataObject
) -> None:
    item = data.draw(items)
    length = len(msgspec.msgpack.encode(item))
    assert length <= weigh(item) <= length + weight.SLACK


def test_everything_that_is_weighed_is_among_them() -> None:
    known = {"weight_of_row", *(f"weight_of_{name}" for name in ("mail_item", "promise"))}
    known |= {f"weight_of_{name}" for name, _, _ in WEIGHERS if " " not in name and name != "account"}
    assert {name for name in vars(weight) if name.startswith("weight_of_")} == known


def test_a_frame_has_no_more_beside_its_items_than_is_counted() -> None:
    most, name = (1 << 64) - 1, "é" * 32
    for body in (
        Replicate(most, []),
        Forward(most, []),
        Forwarded(most, [], [], []),
        Offer(1 << 20, []),
        RecordsPage([], more=True),
        Deliver([Push(name, most, [], drained=True)]),
        AccountPromises([], more=True),
    ):
        assert len(encode([PeerFrame(-(1 << 63), body)])) + 4 <= weight.FRAME


@given(st.lists(st.builds(PeerFrame, st.integers(-5, 5), st.builds(Replicate, INTS, st.just([]))), max_size=40))
def test_joined_frames_are_the_message_that_they_would_be_together(frames: list[PeerFrame]) -> None:
    assert join([encode_frame(frame) for frame in frames]) == encode(frames)


def test_many_frames_are_joined_under_one_header() -> None:
    for count in (15, 16, 65_535, 65_536):
        frames = [ServerFrame(1, Done())] * count
        assert join([encode_frame(frame) for frame in frames]) == encode(frames)
