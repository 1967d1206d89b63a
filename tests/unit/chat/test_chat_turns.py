"""One session's backlog stands before nobody else: in turns that are counted, on a clock that is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.chat.ring import ChatRing, N, mid, simulated

from coterie_node.chat.gateway.turns import LEAST, Round, Turns, Window
from coterie_node.chat.owner.delivery import Delivery
from coterie_node.chat.settings import ChatSettings
from coterie_protocol.chat import Attach, Forward
from coterie_protocol.client_api import Done, Error, Lookup, LookupReply, Send, Stored, Subscribe
from coterie_protocol.errors import ErrorCode


@dataclass
class Item:
    whose: str
    number: int
    weight: int = 10


def test_what_comes_behind_a_backlog_of_another_goes_in_the_next_turn_as_its_second() -> None:
    turns: Turns[Item] = Turns(128, 1_000_000)
    mallory, alice = Window(), Window()
    for number in range(2000):
        turns.put(mallory, Item("mallory", number))
    first = list(turns.take())
    assert [item.number for item in first] == list(range(128))
    turns.put(alice, Item("alice", 0))
    assert [item.whose for item in turns.take()] == ["alice"]
    for item in first:
        turns.done(mallory, item)
    turns.put(alice, Item("alice", 1))
    turns.put(alice, Item("alice", 2))
    assert [item.whose for item in turns.take()][:4] == ["mallory", "alice", "mallory", "alice"]


def test_an_item_that_is_heavier_than_a_whole_window_goes_alone() -> None:
    turns: Turns[Item] = Turns(128, 100)
    window = Window()
    for number in range(3):
        turns.put(window, Item("mallory", number, weight=5000))
    for number in range(3):
        (item,) = turns.take()
        assert item.number == number
        assert not list(turns.take())
        assert turns.done(window, item) == (number < 2)


def test_a_window_is_divided_by_the_gateways_that_share_it() -> None:
    turns: Turns[Item] = Turns(128, 1_000_000)
    for places, count in ((1, 128), (3, 42), (1000, LEAST)):
        window = Window()
        window.places = places
        for number in range(200):
            turns.put(window, Item("mallory", number))
        assert len(list(turns.take())) == count


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "take", "done"])), max_size=300))
def test_everything_goes_once_in_the_order_of_its_session_and_never_above_the_window(
    steps: list[tuple[str, str]],
) -> None:
    turns: Turns[Item] = Turns(LEAST, 1_000_000)
    windows = {whose: Window() for whose in "abc"}
    put = dict.fromkeys("abc", 0)
    under_way: dict[str, list[Item]] = {whose: [] for whose in "abc"}
    gone = dict.fromkeys("abc", 0)

    def take() -> None:
        for item in turns.take():
            assert item.number == gone[item.whose]
            gone[item.whose] += 1
            under_way[item.whose].append(item)

    for whose, step in steps:
        if step == "put":
            for _ in range(5):
                turns.put(windows[whose], Item(whose, put[whose]))
                put[whose] += 1
        elif step == "take":
            take()
        elif under_way[whose]:
            turns.done(windows[whose], under_way[whose].pop())
        for one, window in windows.items():
            assert window.items == len(under_way[one]) <= LEAST
            assert window.bytes == 10 * window.items
    while any(under_way.values()) or gone != put:
        for one, items in under_way.items():
            while items:
                turns.done(windows[one], items.pop())
        take()
    assert not turns._waiting


def test_all_connections_of_a_session_have_one_turn_of_the_loop_together() -> None:
    later: list[Callable[[], None]] = []
    turn = Round(4, later.append)
    assert [turn.take("mallory") for _ in range(6)] == [False, False, False, True, True, True]
    assert not turn.take("alice")
    assert len(later) == 1
    later.pop()()
    assert not turn.take("mallory")
    assert len(later) == 1


def test_another_s_message_is_with_the_owner_after_two_frames_of_a_flood_whose_results_are_away() -> None:
    async def story() -> None:
        settings = ChatSettings(session_window=20)
        async with ChatRing(settings=settings) as ring:
            gateway = ring.elsewhere("bob")
            mallory, alice = await ring.user(gateway, "mallory"), await ring.user(gateway, "alice")
            await ring.user(gateway, "bob")
            forwards: list[list[str]] = []

            def keep_back(packet: object) -> bool:
                body = packet.body  # type: ignore[attr-defined]
                if isinstance(body, Forward):
                    forwards.append([post.sender for post in body.posts])
                    return "mallory" in forwards[-1]
                return False

            ring.world.network.drop(keep_back)
            futures = mallory.post(*(Send("bob", mid(number), b"x") for number in range(1000)))
            await asyncio.sleep(0)
            await alice.send("bob", 5000)
            assert len(forwards[0]) == 20
            assert forwards[1] == ["alice"]
            for future in futures:
                future.cancel()

    simulated(story)


def test_what_is_tried_again_takes_no_place_of_what_can_go_on() -> None:
    """Many messages to slots that are away do not stop the same session's messages to the others."""

    async def story() -> None:
        async with ChatRing(settings=ChatSettings(session_window=20)) as ring:
            gateway = ring.elsewhere("bob")
            alice = await ring.user(gateway, "alice")
            bob = await ring.user(gateway, "bob")
            away = ring.owner("bob")
            lost = [f"lost{number}" for number in range(400) if ring.owner(f"lost{number}") == away][:30]
            assert len(lost) == 30
            near = next(name for name in (f"near{n}" for n in range(100)) if ring.owner(name) not in (away, gateway))
            await ring.user(gateway, near)
            await ring.crash(away)
            futures = alice.post(*(Send(name, mid(number), b"x") for number, name in enumerate(lost)))
            begun = asyncio.get_running_loop().time()
            await alice.send(near, 1000)
            took = asyncio.get_running_loop().time() - begun
            assert took < 0.2
            assert not any(future.done() for future in futures)
            for future in futures:
                future.cancel()
            assert bob.name

    simulated(story)


def test_a_session_at_three_gateways_has_one_rate() -> None:
    async def story() -> None:
        settings = ChatSettings(sends_per_second=20.0)
        async with ChatRing(settings=settings) as ring:
            first = await ring.user(N[0], "mallory")
            clients = [first]
            for uid in N[1:3]:
                client = await ring.connect(uid)
                await client.resume("mallory", first.token)
                clients.append(client)
            number = 0

            async def flood(client: object, seconds: float) -> int:
                nonlocal number
                stored = 0
                end = asyncio.get_running_loop().time() + seconds
                while asyncio.get_running_loop().time() < end:
                    number += 1
                    (future,) = client.post(Send("mallory", mid(number), b"x"))  # type: ignore[attr-defined]
                    reply = await future
                    stored += isinstance(reply, Stored)
                    if isinstance(reply, Error):
                        assert reply.code == ErrorCode.RATE_LIMITED
                        await asyncio.sleep(reply.value / 1000)
                return stored

            await asyncio.gather(*(flood(client, 6.0) for client in clients))
            allowances = [client.conversation.session.allowance for client in clients]  # type: ignore[union-attr]
            assert [one.gateways for one in allowances] == [3, 3, 3]
            counts = await asyncio.gather(*(flood(client, 10.0) for client in clients))
            assert sum(counts) <= 10 * 20 * 1.1
            assert min(counts) >= 10 * 20 / 3 * 0.8
            # Who leaves gives its part back to the others.
            for client in clients[1:]:
                client.leave()
            await flood(first, 2.0)
            assert allowances[0].gateways == 1
            assert await flood(first, 10.0) >= 10 * 20 * 0.8

    simulated(story)


def test_asking_at_how_many_gateways_a_session_is_leaves_its_subscription_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hostile session would otherwise have its window emptied once a second, where it is once in ten."""

    async def story() -> None:
        settings = ChatSettings(lookups_per_second=1.0)
        async with ChatRing(settings=settings) as ring:
            gateway = ring.elsewhere("alice")
            alice = await ring.user(gateway, "alice")
            bob = await ring.user(gateway, "bob")
            await alice.ask(Subscribe(), Done)
            await bob.send("alice", 1)
            await alice.until(lambda: ("bob", mid(1)) in alice.got())
            asked = 0

            def count(packet: object) -> bool:
                nonlocal asked
                asked += isinstance(packet.body, Attach)  # type: ignore[attr-defined]
                return False

            renewals: list[str] = []
            monkeypatch.setattr(Delivery, "renewed", lambda _, name: renewals.append(name))
            ring.world.network.drop(count)
            end = asyncio.get_running_loop().time() + 20.0
            while asyncio.get_running_loop().time() < end:
                (future,) = alice.post(Lookup("bob"))
                reply = await future
                assert isinstance(reply, Error | LookupReply)
                await asyncio.sleep(0.1)
            assert 15 <= asked <= 40
            assert 1 <= renewals.count("alice") <= 3

    simulated(story)
