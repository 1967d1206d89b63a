"""The cleaner: nothing that came from outside is obeyed by a terminal, and nothing of it is hidden."""

from __future__ import annotations

import json
import sys
import time
import unicodedata

import pyte
import pytest
from wcwidth import wcwidth

from coterie_client import terminal

EVERY_CHARACTER = [chr(code) for code in range(sys.maxunicode + 1)]


def test_no_control_format_or_surrogate_is_left_in_a_line() -> None:
    seen = terminal.line("".join(EVERY_CHARACTER), len(EVERY_CHARACTER))
    kinds = {unicodedata.category(character) for character in set(seen)}
    assert kinds.isdisjoint({"Cc", "Cs", "Zl", "Zp"})
    left = {character for character in set(seen) if unicodedata.category(character) == "Cf"}
    # Signs over Arabic, Kaithi and Egyptian numbers and words, which are seen.
    assert all(0x600 <= ord(c) <= 0x8FF or ord(c) in (0x110BD, 0x110CD) or 0x13430 <= ord(c) <= 0x1343F for c in left)


def test_nothing_is_left_out() -> None:
    hidden = [c for c in EVERY_CHARACTER if unicodedata.category(c)[0] == "C" and unicodedata.category(c) != "Co"]
    assert all(terminal.line(c).strip() for c in hidden if unicodedata.category(c) != "Cn")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[2Jgone", "␛[2Jgone"),
        ("a\nb\tc\rd\x00", "a␊b␉c␍d␀"),
        ("\x7f\x9b1A", "␡<U+009B>1A"),
        ("\u202edrawkcab\u2066", "<U+202E>drawkcab<U+2066>"),
        ("al\u200bice so\u00adft", "al<U+200B>ice so<U+00AD>ft"),
        ("\u3164\u115f\ufe0f\u2028\U000e0041", "<U+3164><U+115F><U+FE0F><U+2028><U+E0041>"),
        ("\udcff", "<U+DCFF>"),
        ("x" * 3000, "x" * 1999 + "…"),
    ],
)
def test_a_line_shows_what_was_there(text: str, seen: str) -> None:
    assert terminal.line(text) == seen


def test_further_lines_of_a_message_are_indented_and_cannot_look_like_messages() -> None:
    forged = "hi\r\n2026-01-01 12:00 bob: send money\n\nend\n\n"
    assert terminal.block(forged) == "hi\n    2026-01-01 12:00 bob: send money\n    \n    end"
    assert "\n" not in terminal.block("a\u2028b\u2029c\x0bd\x0ce\x85f\rg")


@pytest.mark.parametrize(
    "text",
    [
        "❤️ #️⃣ ©️ ☎︎",
        "👩‍👩‍👧‍👦 🏳️‍🌈 👩🏽‍⚕️",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        "می‌خواهم",  # Persian
        "क्‍ष",  # Hindi
        "one\ttwo",
        "naïve 日本語 한국어 עברית",
    ],
)
def test_ordinary_writing_is_left_alone(text: str) -> None:
    assert terminal.block(text) == text


@pytest.mark.parametrize(
    "text", ["a\ufe0f", "a\u200db", "🏴\U000e0061\U000e007f", "x\u200cy", "\u200d❤", "❤\ufe0f\ufe0f"]
)
def test_what_writing_does_not_need_becomes_visible_in_a_message(text: str) -> None:
    assert "<U+" in terminal.block(text)


def test_json_means_the_same_and_holds_nothing_that_a_terminal_obeys() -> None:
    text = "".join(character for character in EVERY_CHARACTER if not 0xD800 <= ord(character) < 0xE000)
    encoded = terminal.json(json.dumps(text, ensure_ascii=False))
    assert json.loads(encoded) == text
    assert terminal.line(encoded, len(encoded)) == encoded


def test_a_line_that_the_terminal_would_break_does_not_go_on_at_the_margin() -> None:
    padded = terminal.line("12:00 eve: " + " " * 9 + "12:00 bob: forged " + "日本" * 10)
    lines = terminal.wrapped(padded, 20).split("\n")
    assert all(line.startswith(terminal.INDENT) for line in lines[1:])
    assert all(len(line) + sum(ord(c) > 0x2FFF for c in line) <= 20 for line in lines)
    assert "".join("".join(lines).split()) == "".join(padded.split())
    assert terminal.wrapped(padded, 3) == padded  # no terminal to speak of


def test_lines_are_broken_at_spaces_and_go_on_without_them() -> None:
    text = terminal.line("12:00 eve: the quick brown fox jumps over the lazy dog again")
    assert terminal.wrapped(text, 20).split("\n") == [
        "12:00 eve: the quick",
        "    brown fox jumps",
        "    over the lazy",
        "    dog again",
    ]
    assert terminal.wrapped(terminal.line("12:00 eve: the quick "), 20) == "12:00 eve: the quick"
    long = terminal.wrapped(terminal.line("12:00 eve: " + "日" * 40), 40).split("\n")
    assert [len(line) for line in long] == [25, 22, 12]  # written without spaces: broken where it is full


@pytest.mark.parametrize(
    "filling",
    [
        "\t" * 10 + ".",
        "a\t" * 9 + ".",
        "\u2764\ufe0f" * 40,
        "\u0915\u0903" * 40,
        "\u1100\u1161" * 40,
        "1\ufe0f\u20e3" * 40,
    ],
    ids=["tabs", "letters and tabs", "coloured pictures", "vowel signs", "parts of syllables", "keys"],
)
@pytest.mark.parametrize("columns", [20, 80])
def test_no_character_that_a_terminal_draws_wider_takes_a_message_to_the_margin(filling: str, columns: int) -> None:
    text = terminal.joined(terminal.line("12:00 mallory: "), terminal.block(f"{filling}12:00 alice: forged"))
    wide = {"\ufe0f": 1, "\u0903": 1, "\u1161": 2, "\u20e3": 0}
    for line in terminal.wrapped(text, columns).split("\n"):
        at = 0
        for character in line:
            at = (
                min(at + 8 - at % 8, columns - 1) if character == "\t" else at + wide.get(character, wcwidth(character))
            )
            assert at <= columns


@pytest.mark.parametrize("mark", ["\u0300", "\u0489", "\u0e47", "\u064b", "\u0591", "\u20dd"])
def test_marks_that_are_piled_up_do_not_paint_over_other_lines(mark: str) -> None:
    seen = terminal.block("e" + mark * 1000)
    assert seen.startswith("e" + mark * terminal.MOST_MARKS + f"<U+{ord(mark):04X}>")
    assert seen.count(mark) == terminal.MOST_MARKS
    assert seen.count("<U+") == 1000 - terminal.MOST_MARKS
    assert terminal.field("e" + mark * 20).count(mark) == terminal.MOST_MARKS


@pytest.mark.parametrize("columns", [20, 80, 81])
@pytest.mark.parametrize("tabs", [1, 2, 8, 9, 10, 11, 40])
def test_tabs_do_not_push_what_follows_to_the_margin(tabs: int, columns: int) -> None:
    message = terminal.joined(terminal.line("12:00 eve: "), terminal.block("\t" * tabs + "x12:00 bob: forged"))
    screen = pyte.Screen(columns, 60)
    screen.set_mode(pyte.modes.LNM)  # a pseudo-terminal's kernel does that
    pyte.Stream(screen).feed(terminal.wrapped(message, columns))
    lines = [line.rstrip() for line in screen.display]
    assert lines[0] == "12:00 eve:" or lines[0].startswith("12:00 eve: ")
    assert all(not line or line.startswith(terminal.INDENT) for line in lines[1:])
    assert "".join(" ".join(lines).split()).endswith("x12:00bob:forged")


def test_a_tab_within_a_line_goes_to_the_stop_that_a_terminal_has() -> None:
    assert terminal.wrapped(terminal.block("a\tb\n日本\tc"), 80) == "a       b\n    日本        c"


@pytest.mark.parametrize("character", ["\t", "\u0301", "\u202e", "x"])
def test_the_longest_message_is_broken_into_lines_at_once(character: str) -> None:
    """64 KiB of tabs took three seconds of their recipient's, fifteen on a narrow terminal."""
    began = time.process_time()
    terminal.wrapped(terminal.block(character * 65_536), 8)
    assert time.process_time() - began < 2
