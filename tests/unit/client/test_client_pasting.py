"""A paste whose end never comes does not swallow the keyboard, and a paste that has an end is one paste."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys
from tests.unit.client.conftest import Coterie, Enter
from tests.unit.client.gateway import Server
from tests.unit.client.ptys import on_terminal

from coterie_client.pasting import MOST, STILL, Pastes
from coterie_protocol.bounds import MAX_TEXT_BYTES

BEGIN, END = "\x1b[200~", "\x1b[201~"


def keys(*came: tuple[float, str]) -> list[tuple[str, str]]:
    """Return what the editor makes of what comes, each piece so many seconds after the one before."""
    pressed: list[KeyPress] = []
    parser, pastes, now = Vt100Parser(pressed.append), Pastes(), 0.0
    for pause, text in came:
        now += pause
        parser.feed(pastes.take(text, now))
    return [(str(getattr(one.key, "value", one.key)), one.data) for one in pressed]


PASTE = Keys.BracketedPaste.value


@pytest.mark.parametrize("key", ["\x03", "\x04", "\r", "x", "\x1b[A"])
def test_a_key_by_itself_ends_a_paste_that_has_stopped(key: str) -> None:
    pressed = keys((0, BEGIN + "half"), (STILL, key))
    assert pressed[0] == (PASTE, "half")
    assert pressed[1][1] == key


def test_keys_pressed_again_and_again_get_through() -> None:
    pressed = keys((0, BEGIN + "half"), *[(STILL / 3, "\x03")] * 4)
    assert [data for _, data in pressed] == ["half\x03\x03", "\x03", "\x03"]


@pytest.mark.parametrize("text", ["\x03", "\r", "a\x03\rrm", END + BEGIN])
def test_what_comes_with_a_paste_is_part_of_it(text: str) -> None:
    """Whatever a page puts into the clipboard must not end the editor and go to the shell."""
    pressed = keys((0, BEGIN + "half" + text), (STILL / 2, text), (STILL * 2, text + "more" + END), (0, "k"))
    assert [data for key, data in pressed if key != PASTE] == ["k"]


def test_a_paste_that_stalls_goes_on() -> None:
    assert keys((0, BEGIN + "one\r"), (60, "two\rthree"), (60, "\r" + END), (0, "k")) == [
        (PASTE, "one\rtwo\rthree\r"),
        ("k", "k"),
    ]


@pytest.mark.parametrize("cut", range(len(END)))
def test_a_paste_that_is_larger_than_any_message_is_cut(cut: int) -> None:
    """The editor's work grows with the square of a paste: a log file pasted by mistake stopped it for minutes."""
    piece = "x" * 1024
    rest = [(0.0, piece)] * (4 * MOST // 1024)
    pressed = keys((0, BEGIN), *rest, (0, piece + END[:cut]), (0, END[cut:] + "k"), (0, BEGIN + "next" + END))
    assert pressed[0][0] == PASTE
    assert MAX_TEXT_BYTES < len(pressed[0][1]) <= MOST + 2 * len(piece)
    assert pressed[1:] == [("k", "k"), (PASTE, "next")]


@pytest.mark.parametrize("cut", range(1, len(END)))
def test_an_end_in_two_pieces_is_an_end(cut: int) -> None:
    pressed = keys((0, BEGIN + "whole" + END[:cut]), (0, END[cut:]), (STILL, "k"))
    assert pressed == [(PASTE, "whole"), ("k", "k")]


async def test_one_can_leave_and_send_after_a_paste_without_an_end(
    coterie: Coterie, enter: Enter, server: Server, tmp_path: Path
) -> None:
    await enter("alice")
    await enter("bob")
    async with on_terminal(tmp_path / "alice", server.url, "chat", "bob") as terminal:
        await terminal.until(lambda screen: screen.endswith("\n>"))
        await terminal.type(BEGIN + "half")

        async def press() -> None:
            while True:
                await terminal.type("!")
                await asyncio.sleep(STILL / 4)

        pressing = asyncio.create_task(press())
        await terminal.until(lambda screen: "> half!" in screen)
        pressing.cancel()
        await terminal.type("\r")
        await terminal.until(lambda screen: "you ✓: half!" in screen)
        await terminal.type("\x04")
        assert await terminal.end() == 0
        assert terminal.restored()
    assert "half!" in (await coterie("receive", home="bob")).out
