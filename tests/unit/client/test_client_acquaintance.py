"""Who is new is announced, at receive, chat and the first send; who only looks like somebody known is warned of."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.client.conftest import Coterie, Enter

from coterie_client import acquaintance
from coterie_client.acquaintance import skeleton
from coterie_protocol.identifiers import user_name


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("аlice", "alice"),  # a Cyrillic letter
        ("rnartin", "martin"),
        ("b0b", "bob"),
        ("pau1", "paul"),
        ("jose\u0301", "josé"),
        ("ɑdа", "ada"),
        ("οlga", "olga"),  # a Greek letter
    ],
)
def test_names_that_look_alike_have_one_skeleton(name: str, other: str) -> None:
    assert skeleton(name) == skeleton(other)


def test_names_that_do_not_look_alike_have_different_ones() -> None:
    names = ["alice", "bob", "carol", "dave", "eve", "josé", "jose", "алиса", "田中", "user1", "user2", "anna", "hanna"]
    assert len({skeleton(name) for name in names}) == len(names)


def test_the_table_says_where_it_comes_from_and_maps_to_what_is_mapped_no_further() -> None:
    table = Path(acquaintance.__file__).with_name("confusables.txt").read_text()
    assert "unicode.org" in table
    assert all(skeleton(skeleton(c)) == skeleton(c) for c in acquaintance._prototypes())


async def test_first_contact_is_announced_once(coterie: Coterie, enter: Enter) -> None:
    for name in ("alice", "bob", "carol", "dave"):
        await enter(name)
    ran = await coterie("send", "bob", "one")
    assert ran.err == "coterie: bob is new to you: no message has gone between you before\n"
    assert (await coterie("send", "bob", "two")).err == ""
    ran = await coterie("receive", home="bob")
    assert ran.err == "coterie: alice is new to you: no message has gone between you before\n"
    await coterie("send", "bob", "three")
    assert (await coterie("receive", home="bob")).err == ""
    assert (await coterie("send", "alice", "back", home="bob")).err == ""
    await coterie("contacts", "add", "carol")
    assert (await coterie("send", "carol", "hello")).err == ""
    ran = await coterie("chat", "dave", stdin=b"hi\n")
    assert ran.err == "coterie: dave is new to you: no message has gone between you before\n"
    assert (await coterie("chat", "dave", stdin=b"hi\n")).err == ""


async def test_a_name_that_looks_like_a_known_one_is_warned_of(coterie: Coterie, enter: Enter) -> None:
    false = user_name("аlice")
    for name in ("alice", "bob", false):
        await enter(name)
    await coterie("send", "bob", "the true one")
    await coterie("receive", home="bob")
    await coterie("send", "bob", "the false one", home=false)
    for ran in (
        await coterie("receive", home="bob"),
        await coterie("send", false, "x", home="alice"),
    ):
        assert ran.code == 0
        assert ran.err.count("\n") == 1
        assert f"{false} is new to you, and only looks like alice, whom you know" in ran.err
        assert "U+0430 CYRILLIC SMALL LETTER A is not U+0061 LATIN SMALL LETTER A" in ran.err


async def test_a_message_to_oneself_is_one_message(coterie: Coterie, enter: Enter) -> None:
    await enter("alice")
    ran = await coterie("send", "alice", "note to self")
    assert (ran.code, ran.err) == (0, "")
    ran = await coterie("receive")
    assert ran.out.count("note to self") == 1
    assert (await coterie("receive")).out == ""
    ran = await coterie("history", "alice")
    assert ran.out.count("note to self") == 1
    assert "you ✓" in ran.out
    assert (await coterie("history", "alice", "--json")).out.count("note to self") == 1
    ran = await coterie("chat", "alice", stdin=b"another\n")
    assert ran.out.count("another") == 1
    assert (await coterie("receive")).out == ""
    await enter("alice", home="phone", again=True)
    await coterie("login", "alice", home="phone", COTERIE_PASSWORD="correct horse")
    assert (await coterie("history", "alice", home="phone")).out.count("note to self") <= 1


async def test_a_forged_twin_hides_nothing(coterie: Coterie, enter: Enter) -> None:
    """Another's message with the id of one's own is another message."""
    await enter("alice")
    await enter("bob")
    known = "00112233-4455-7677-8899-aabbccddeeff"
    await coterie("send", "bob", "mine", "--id", known)
    await coterie("receive", home="bob")
    await coterie("send", "alice", "theirs", "--id", known, home="bob")
    await coterie("receive")
    ran = await coterie("history", "bob")
    assert ("mine" in ran.out, "theirs" in ran.out) == (True, True)
