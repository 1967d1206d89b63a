"""Wrong passwords cost whoever tries them, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.unit.chat.ring import ChatRing, N, refusal, simulated

from coterie_node.chat.gateway.attempts import MOST_KEYS, Attempts
from coterie_node.chat.settings import ChatSettings
from coterie_protocol.errors import CoterieError, ErrorCode

SETTINGS = ChatSettings()
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.66"


# --- on a ring ---


def test_one_wrong_try_every_5_s_from_elsewhere_does_not_keep_the_owner_out() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            owner = await ring.user(N[0], "alice")
            guesser = await ring.connect(N[0], ELSEWHERE)

            async def guess() -> None:
                for op in range(1000, 1200):
                    assert await refusal(guesser.login("alice", "wrong", op=op)) in (
                        ErrorCode.REFUSED,
                        ErrorCode.RATE_LIMITED,
                    )
                    await asyncio.sleep(5.0)

            guessing = asyncio.create_task(guess())
            await asyncio.sleep(400.5)  # the first ten were taken anyway
            for op in range(10, 14):
                again = await ring.connect(N[0], HOME)
                await again.login("alice", op=op)
                stranger = await ring.connect(N[0], f"203.0.113.{op}")  # a place where the owner never was
                await stranger.login("alice", op=op + 100)
                await asyncio.sleep(60.0)
            guessing.cancel()
            await asyncio.gather(guessing, return_exceptions=True)
            assert owner.ended

    simulated(story)


def test_one_wrong_try_every_5_s_from_the_owners_own_address_does_not_either() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            await ring.user(N[0], "alice")
            guesser = await ring.connect(N[0], HOME)
            for op in range(1000, 1120):
                assert await refusal(guesser.login("alice", "wrong", op=op)) is ErrorCode.REFUSED
                if op % 10 == 9:
                    await (await ring.connect(N[0], HOME)).login("alice", op=op - 900)
                await asyncio.sleep(5.0)

    simulated(story)


def test_a_device_with_a_resume_token_is_let_through_whatever_its_address_has_done() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            owner = await ring.user(
                N[0],
                "alice",
            )
            guesser = await ring.connect(N[0], ELSEWHERE)
            for op in range(1000, 1200):
                await refusal(guesser.login("alice", "wrong", op=op))
            device = await ring.connect(N[0], ELSEWHERE)
            await device.resume("alice", owner.token)
            await device.login("alice", op=77)

    simulated(story)


def test_who_resumed_at_an_address_may_log_in_there_afterwards() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            owner = await ring.user(N[0], "alice")
            device = await ring.connect(N[0], ELSEWHERE)
            await device.resume("alice", owner.token)
            guesser = await ring.connect(N[0], ELSEWHERE)
            for op in range(1000, 1010):
                await refusal(guesser.login("alice", "wrong", op=op))
            await asyncio.sleep(8.0)
            await (await ring.connect(N[0], ELSEWHERE)).login("alice", op=77)

    simulated(story)


# --- the rules alone ---


def tries(attempts: Attempts, name: str, source: str, seconds: float, every: float, start: float = 0.0) -> int:
    """Count how many wrong tries are taken within a time by somebody who tries again and again."""
    now, taken = start, 0
    while now < start + seconds:
        with contextlib.suppress(CoterieError):
            attempts.take(name, source, now)
            taken += 1
        now += every
    return taken


def test_delays_grow_for_one_account_from_one_source() -> None:
    attempts = Attempts(SETTINGS)
    assert tries(attempts, "ann", ELSEWHERE, 3600.0, 0.5) <= 10 + 12
    assert tries(attempts, "ann", ELSEWHERE, 24 * 3600.0, 10.0, 3600.0) <= 24 * 4 + 1
    assert tries(attempts, "ann", HOME, 1.0, 0.1, 3600.0) == 10
    assert tries(attempts, "bob", ELSEWHERE, 1.0, 0.1, 90_000.0) > 0


def test_delays_grow_for_one_source_that_tries_all_accounts() -> None:
    attempts = Attempts(SETTINGS)
    taken = sum(tries(attempts, f"user{number}", ELSEWHERE, 1.0, 0.5, float(number)) for number in range(3600))
    assert taken <= SETTINGS.login_source_failures + 70


def test_the_wait_that_is_named_is_the_wait() -> None:
    attempts = Attempts(ChatSettings(logins_per_account=1))
    attempts.take("ann", ELSEWHERE, 0.0)
    with pytest.raises(CoterieError, match="try again in 6000 ms") as caught:
        attempts.take("ann", ELSEWHERE, 0.0)
    with pytest.raises(CoterieError):
        attempts.take("ann", ELSEWHERE, caught.value.value / 1000 - 0.01)
    attempts.take("ann", ELSEWHERE, caught.value.value / 1000)


def test_tries_that_are_under_way_count() -> None:
    """Otherwise a hundred at once would all be taken before the first is found wrong."""
    attempts = Attempts(SETTINGS)
    assert tries(attempts, "ann", ELSEWHERE, 0.1, 0.001) == SETTINGS.logins_per_account


def test_a_try_that_was_not_checked_does_not_count() -> None:
    attempts = Attempts(ChatSettings(logins_per_account=1))
    for _ in range(20):
        attempts.take("ann", HOME, 0.0).undo()


def test_a_good_password_makes_good_for_its_pair_and_not_for_the_source() -> None:
    """Else who has an account of their own would log in to it after every few guesses."""
    attempts = Attempts(SETTINGS)
    for number in range(500):
        for guess in range(3):
            now = number + guess / 10
            with contextlib.suppress(CoterieError):
                attempts.take(f"user{number}", ELSEWHERE, now)
        with contextlib.suppress(CoterieError):
            attempts.take("mallory", ELSEWHERE, number + 0.5).succeeded()
    with pytest.raises(CoterieError):
        attempts.take("zoe", ELSEWHERE, 500.0)


def test_mistyping_is_forgotten() -> None:
    attempts = Attempts(SETTINGS)
    assert tries(attempts, "ann", HOME, 1.0, 0.1) == 10
    assert tries(attempts, "ann", HOME, 1.0, 0.1, 86_400.0) == 10


def test_what_is_remembered_is_bounded() -> None:
    attempts = Attempts(SETTINGS)
    for number in range(MOST_KEYS + 100):
        attempts.remember(f"user{number}", f"source{number}")
        attempts.take(f"guest{number}", f"place{number}", 0.0)
        attempts.take(f"user{number}", f"source{number}", 0.0)
    assert max(attempts.sizes()) <= MOST_KEYS
