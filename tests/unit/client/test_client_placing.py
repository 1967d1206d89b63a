"""A sender's place in its conversation does not depend on local state alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.client.conftest import Enter
from tests.unit.client.gateway import Gateway, Refusal, World, now
from tests.unit.client.talk import opened, texts, waiting

from coterie_client import sender
from coterie_client.envelope import Content, open_body, seal
from coterie_client.errors import IdTaken
from coterie_client.history import Message
from coterie_client.ordering import HoldBack
from coterie_client.placing import next_counter
from coterie_client.settings import Settings
from coterie_protocol.bounds import MAX_COUNT
from coterie_protocol.client_api import MailItem, Page, Request
from coterie_protocol.errors import ErrorCode
from coterie_protocol.records import State

HOUR = 3_600_000


def fresh(settings: Settings, home: Path) -> Settings:
    """Keep session.json and nothing else."""
    home.mkdir()
    shutil.copy(settings.session_file, home)
    return Settings(home, settings.servers)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Turn this device's clock by so many milliseconds."""

    def turn(by: int) -> None:
        monkeypatch.setattr(sender, "now_ms", lambda: now() + by)

    return turn


async def job(alice: Settings, home: Path, *words: str) -> None:
    async with opened(fresh(alice, home)) as client:
        for word in words:
            await client.sender.send("bob", word)
        assert await client.archiver.flush(10)


def contents(world: World) -> list[Content]:
    found = [open_body(item.body) for item in world.pending("bob")]
    assert all(isinstance(content, Content) for content in found)
    return [content for content in found if isinstance(content, Content)]


async def test_a_job_that_keeps_only_its_session_is_shown_in_order(
    tmp_path: Path, alice: Settings, bob: Settings
) -> None:
    await job(alice, tmp_path / "a", "1", "2")
    await job(alice, tmp_path / "b", "3", "4")
    assert texts(await waiting(bob)) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(("to", "text"), [("bob", "two"), ("carol", "one")])
async def test_an_id_that_another_message_has_is_not_taken_for_a_retry_by_a_fresh_database(
    tmp_path: Path, world: World, enter: Enter, alice: Settings, bob: Settings, to: str, text: str
) -> None:
    """It was told as sent, with exit code 0, and was not: the ring holds the first one under this id."""
    await enter("carol")
    known = bytes.fromhex("019a0000000070008000aabbccddeeff")
    async with opened(fresh(alice, tmp_path / "a")) as client:
        await client.sender.submit("bob", "one", known_id=known)[1]
        assert await client.archiver.flush(10)
    async with opened(fresh(alice, tmp_path / "b")) as client:
        with pytest.raises(IdTaken, match="is the id of another message, to bob"):
            await client.sender.submit(to, text, known_id=known)[1]
        assert client.account.outbox.get(known) is None
        assert client.account.outbox.sending() == []
    assert texts(await waiting(bob)) == ["one"]
    assert world.pending("carol") == []
    assert [item.state for item in world.archived("alice")] == [State.ARCHIVED]
    async with opened(fresh(alice, tmp_path / "c")) as client:  # the very same message is a retry
        await client.sender.submit("bob", "one", known_id=known)[1]


@pytest.mark.parametrize("by", [-HOUR, -50 * 365 * 24 * HOUR, 75 * 365 * 24 * HOUR])
async def test_a_clock_that_goes_back_does_not_put_a_message_before_others(
    tmp_path: Path, world: World, alice: Settings, bob: Settings, clock: Callable[[int], None], by: int
) -> None:
    clock(max(by, 0))
    await job(alice, tmp_path / "a", "1", "2")
    clock(min(by, 0))
    await job(alice, tmp_path / "b", "3", "4")
    assert texts(await waiting(bob)) == ["1", "2", "3", "4"]


async def test_a_fresh_database_names_the_message_before_though_it_never_had_it(
    tmp_path: Path, world: World, alice: Settings, bob: Settings
) -> None:
    await job(alice, tmp_path / "a", "1")
    await job(alice, tmp_path / "b", "2", "3")
    first, second, third = world.pending("bob")
    assert [content.prev for content in contents(world)] == [b"", first.id, second.id]
    assert third.id


async def test_a_database_of_before_a_backup_goes_on_behind(
    tmp_path: Path, world: World, alice: Settings, bob: Settings
) -> None:
    """The counters that the lost database has given out are not given out again."""
    await job(alice, tmp_path / "a", "1")
    shutil.copytree(tmp_path / "a", tmp_path / "backup")
    for home, words in (("a", ("2", "3")), ("backup", ("4", "5"))):
        async with opened(Settings(tmp_path / home, alice.servers)) as client:
            for word in words:
                await client.sender.send("bob", word)
    assert texts(await waiting(bob)) == ["1", "2", "3", "4", "5"]
    counters = [content.counter for content in contents(world)]
    assert counters == sorted(set(counters))


async def test_an_archive_that_cannot_be_asked_keeps_nobody_from_sending(
    tmp_path: Path, world: World, alice: Settings, bob: Settings
) -> None:
    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Page):
            raise Refusal(ErrorCode.INTERNAL)

    world.faults = faults
    await job(alice, tmp_path / "a", "1", "2")
    await job(alice, tmp_path / "b", "3", "4")
    world.faults = lambda gateway, request: None
    assert texts(await waiting(bob)) == ["1", "2", "3", "4"]


async def test_counters_of_the_release_before_go_on_without_a_break(
    world: World, alice: Settings, bob: Settings
) -> None:
    """It counted 1, 2, 3; whoever has shown these shows what comes now behind them, and waits for nothing."""
    async with opened(alice) as client:
        epoch = client.account.session.epoch
        old = bytes(15) + b"\1"
        world.put(
            world.accounts["bob"],
            MailItem("alice", old, 0, 0, seal(Content(epoch, 1, b"", now(), "1", "bob")), b"", epoch, now()),
        )
        await client.sender.send("bob", "2")
    assert texts(await waiting(bob)) == ["1", "2"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, MAX_COUNT)), max_size=20))
def test_counters_rise_whatever_the_clock_says(steps: list[tuple[int, int]]) -> None:
    last = 0
    for _, time in steps:
        counter = next_counter(last, time)
        assert last < counter < MAX_COUNT or counter == MAX_COUNT - 1
        last = counter


def test_the_greatest_counter_twice_keeps_the_order_of_coming() -> None:
    hold = HoldBack(last_shown=lambda sender: (0, 0), was_shown=lambda sender, message: False)
    hold.offer([_message(seq, MAX_COUNT - 1) for seq in (1, 2)], 0.0)
    assert [message.seq for message in hold.take(0.0)] == [1, 2]


def _message(seq: int, counter: int) -> Message:
    return Message(seq, "bob", bytes([seq]), "bob", 1, counter, b"", seq, "x", b"", "delivered", archived=False)
