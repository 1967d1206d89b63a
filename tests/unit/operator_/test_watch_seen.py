"""A watch that died without a sound is found out."""

from __future__ import annotations

from coterie_operator.watch import Seen

MAIN = ("chat", "main")


def test_a_watch_that_keeps_up_is_alive() -> None:
    seen = Seen()
    seen.note(MAIN, "1")
    assert seen.alive({MAIN: "1"})
    seen.note(MAIN, "2")
    assert seen.alive({MAIN: "2"})


def test_a_watch_may_lag_once() -> None:
    seen = Seen()
    seen.note(MAIN, "1")
    assert seen.alive({MAIN: "2"})
    seen.note(MAIN, "2")
    assert seen.alive({MAIN: "2"})


def test_a_watch_that_shows_nothing_new_is_dead() -> None:
    seen = Seen()
    seen.note(MAIN, "1")
    assert seen.alive({MAIN: "2"})
    assert not seen.alive({MAIN: "2"})


def test_a_ring_that_changes_all_the_time_is_no_sign_of_death() -> None:
    seen = Seen()
    for version in range(10):
        seen.note(MAIN, str(version))
        assert seen.alive({MAIN: str(version + 1)})


def test_a_deletion_that_was_not_shown_is_a_sign_too() -> None:
    seen = Seen()
    seen.note(MAIN, "1")
    assert seen.alive({})
    assert not seen.alive({})
    seen.note(MAIN, None)
    assert seen.alive({})


def test_a_watch_that_showed_more_than_the_list_is_alive() -> None:
    seen = Seen()
    seen.note(MAIN, "3")
    assert seen.alive({MAIN: "2"})
    assert seen.alive({MAIN: "3"})
