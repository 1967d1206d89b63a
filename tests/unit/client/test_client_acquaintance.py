"""Who is new is announced, at receive, chat and the first send; who only looks like somebody known is warned of."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from tests.unit.client.conftest import Coterie, Enter

from coterie_client import acquaintance
from coterie_client.acquaintance import Acquaintance, skeleton
from coterie_client.client import Account
from coterie_client.settings import Settings
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


async def test_every_false_name_is_compared_with_the_true_one_and_stays_marked(quick: Coterie, enter: Enter) -> None:
    false = [user_name(name) for name in ("аlice", "a1ice")]
    for name in ("bob", "alice", *false):
        await enter(name)
    for name in ("alice", *false):
        await quick("send", "bob", "hello", home=name)
        ran = await quick("receive", home="bob")
        if name != "alice":
            assert "only looks like alice, whom you know" in ran.err
            assert f"{name} [not alice]: hello" in ran.out
        assert (await quick("receive", home="bob")).err == ""
    for name in false:
        await quick("send", "bob", "again", home=name)
        ran = await quick("receive", home="bob")
        assert (ran.err, f"{name} [not alice]: again\n" in ran.out) == ("", True)
        for command in (["history", name], ["presence", name]):
            assert f"{name} [not alice]" in (await quick(*command, home="bob")).out, command
        for command in (["history", name, "--json"], ["presence", name, "--json"]):
            (first, *_) = (await quick(*command, home="bob")).out.splitlines()
            assert json.loads(first)["looks_like"] == "alice", command
    assert "looks_like" not in (await quick("history", "alice", "--json", home="bob")).out
    ran = await quick("contacts", "add", false[0], "--alias", "Work", home="bob")
    assert (ran.code, f"{false[0]} only looks like alice, whom you know" in ran.err) == (0, True)
    await quick("contacts", "add", "alice", home="bob")
    assert (await quick("contacts", home="bob")).out == f"alice\n{false[0]} [not alice]  Work\n"
    listed = [json.loads(line) for line in (await quick("contacts", "--json", home="bob")).out.splitlines()]
    assert [one.get("looks_like") for one in listed] == [None, "alice"]
    await quick("send", "bob", "in JSON", home=false[0])
    assert json.loads((await quick("receive", "--json", home="bob")).out)["looks_like"] == "alice"
    assert json.loads((await quick("send", false[0], "x", "--json", home="bob")).out)["looks_like"] == "alice"
    await quick("send", "bob", "once more", home=false[0])
    assert f"Work ({false[0]} [not alice]): once more" in (await quick("receive", home="bob")).out
    assert "[not" not in (await quick("history", "alice", home="bob")).out


async def test_the_true_one_is_who_was_known_first_whatever_the_names(alice: Settings) -> None:
    false = user_name("аlice")
    with contextlib.closing(Account.open(alice)) as account:
        for name, at in ((user_name("b0b"), 3), ("bob", 2), ("zoe", 1)):
            account.contacts.add(name, "", at)
        known = Acquaintance(account)
        assert [known.true_one(name) for name in ("b0b", "bob", "zoe", "alice", false)] == [
            "bob", None, None, None, "alice",
        ]  # fmt: skip
        assert [known.true_one(name) for name in ("pau1", "paul")] == [None, "pau1"]


async def test_an_alias_makes_nobody_look_like_somebody_else(quick: Coterie, enter: Enter) -> None:
    for name in ("alice", "bob"):
        await enter(name)
    assert (await quick("contacts", "add", "bob", "--alias", "My Bob")).code == 0
    assert (await quick("contacts", "add", "carol")).code == 0
    for alias in (
        "My Bob",
        "my b0b",
        "BOB",
        "b\u043eb",
        "alice",
        "аlice",
        "x\x1b[2J",
        "a\nb",
        " x",
        "\u200b",
        "\u202ex",
    ):
        ran = await quick("contacts", "rename", "carol", alias)
        assert (ran.code, ran.err.count("\n")) == (2, 1), alias
    for alias in ("Carol", "carol", "Carol ❤️", "", "C."):
        assert (await quick("contacts", "rename", "carol", alias)).code == 0, alias


async def test_who_writes_an_alias_for_a_name_is_told_the_name(quick: Coterie, enter: Enter) -> None:
    for name in ("alice", "bob"):
        await enter(name)
    await quick("contacts", "add", "bob", "--alias", "My Bob")
    for command in (["send", "My Bob", "hey"], ["history", "My Bob"], ["presence", "My Bob"], ["chat", "My Bob"]):
        ran = await quick(*command)
        assert (ran.code, ran.err) == (
            2,
            "coterie: 'My Bob' is your alias of bob, and aliases are only shown; write bob\n",
        )
    await quick("contacts", "rename", "bob", "robert")
    ran = await quick("send", "robert", "hey")
    assert (ran.code, "write bob" in ran.err) == (4, True)


async def test_an_empty_list_of_contacts_says_how_to_fill_it(quick: Coterie, enter: Enter) -> None:
    await enter("alice")
    ran = await quick("contacts")
    assert (ran.code, ran.out, "contacts add NAME" in ran.err) == (0, "", True)
    assert (await quick("contacts", "--json")).err == ""


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


def test_strangers_by_the_thousand_are_compared_once_each(alice: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was compared with all whom one knows: a thousand strangers and ten thousand known took minutes."""
    count = 0

    def counted(name: str) -> str:
        nonlocal count
        count += 1
        return skeleton(name)

    with contextlib.closing(Account.open(alice)) as account:
        for number in range(300):
            account.contacts.add(f"known{number}", "", 0)
        monkeypatch.setattr(acquaintance, "skeleton", counted)
        sentences = Acquaintance(account).announce(["kn\u043ewn7", *(f"new{number}" for number in range(200))])
    assert "only looks like known7, whom you know" in sentences[0]
    assert len(sentences) == 201
    assert count <= 1 + 300 + 201


async def test_a_note_to_oneself_is_no_news_in_another_chat(quick: Coterie, enter: Enter) -> None:
    await enter("alice")
    await enter("bob")
    await quick("send", "alice", "a note")
    ran = await quick("chat", "bob", COTERIE_PASSWORD="")
    assert (ran.code, ran.out) == (0, "")
    assert "a note" in (await quick("history", "alice")).out
