"""The cleaner: what came from outside passes through here before it reaches a terminal.

A terminal obeys what it is sent: control characters repaint it, bidirectional controls turn a line round, characters
that cannot be seen make two names look the same, and an end of line makes one message look like two. Here all of them
become visible; nothing is left out, so that nobody is deceived about what was there.

`Shown` is the type of such text. `output.out` takes nothing else, and only the functions of this module make it.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import NewType

Shown = NewType("Shown", str)
"""Text that may reach a terminal as it is."""

MOST_FIELD = 200
"""Characters of a field (a name, an alias, an address) that are shown."""
MOST_LINE = 2000
"""Characters of a line of explanation that are shown: an error sentence may come from a server."""
MOST_MARKS = 8
"""Marks over and under one letter that are drawn: what is piled higher paints over the lines above and below."""
STOP = 8
"""Columns between a terminal's tab stops."""
INDENT = "    "
"""What stands before every further line of a message: only a message's own first line begins at the margin."""

_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SEPARATORS = "\u2028\u2029"
_IGNORABLE = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Unicode's Default_Ignorable_Code_Point, and the annotation characters, which are not seen either."""
_SURROGATES = "\ud800-\udfff"

_JOINED_SCRIPTS = "\u0600-\u08ff\u0900-\u0dff"
"""Scripts that are written with joiners: Arabic and Syriac, and those of India and Ceylon."""
_PICTURE = "\u00a9\u00ae\u203c\u2049\u2100-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_SEEN = re.compile(
    rf"(?<=[{_PICTURE}#*0-9])\ufe0f"  # a picture's colours
    rf"|(?<=[{_PICTURE}])\ufe0e"
    rf"|(?<=[{_PICTURE}\ufe0f])\u200d(?=[{_PICTURE}])"  # one picture made of several
    rf"|(?<=[{_JOINED_SCRIPTS}])[\u200c\u200d](?=[{_JOINED_SCRIPTS}])"
    "|(?<=\U0001f3f4)\U000e0067\U000e0062(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074"
    "|\U000e0077\U000e006c\U000e0073)\U000e007f"  # the flags of England, Scotland and Wales
)
"""Characters that cannot be seen, where writing needs them."""
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u06d6-\u06dc\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
    "\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ua66f-\ua672\ufe20-\ufe2f"
)
"""Marks that stand over or under a letter, of the scripts in which they can be piled."""
_PILED = rf"(?<=[{_MARKS}]{{{MOST_MARKS}}})[{_MARKS}]"
_UNSEEN = re.compile(rf"[\x00-\x1f\x7f-\x9f{_BIDI}{_SEPARATORS}{_IGNORABLE}{_SURROGATES}]|{_PILED}")
_IN_TEXT = re.compile(rf"{_SEEN.pattern}|{_UNSEEN.pattern}")
_JSON = re.compile(rf"[\x7f-\x9f{_SEPARATORS}{_BIDI}{_IGNORABLE}]|{_PILED}")


def line(text: str, most: int = MOST_LINE) -> Shown:
    """Return text as one line, ends of lines made visible too; cut after `most` characters."""
    return Shown(_UNSEEN.sub(_visible, _cut(text, most)))


def field(text: str, most: int = MOST_FIELD) -> Shown:
    """Return a name or another single value as one line, cut after `most` characters."""
    return line(text, most)


def block(text: str) -> Shown:
    """Return a message's text: tabs stay, lines end as they do on Windows or elsewhere, further lines are indented."""
    text = text.replace("\r\n", "\n").rstrip("\n")
    return Shown(_IN_TEXT.sub(_visible_in_text, text).replace("\n", "\n" + INDENT))


def lines(texts: Iterable[str]) -> Shown:
    """Return texts as a line each, with their ends."""
    return Shown("".join(line(text) + "\n" for text in texts))


def json(encoded: str) -> Shown:
    """Return JSON that means the same, with every character escaped that a terminal would obey or not show."""
    return Shown(_JSON.sub(_escaped, encoded))


def ended(text: Shown) -> Shown:
    """Return text with the end of its line."""
    return Shown(text + "\n")


def erased(count: int) -> Shown:
    """Return what takes the last `count` lines away."""
    return Shown(f"\x1b[{count}F\x1b[J" if count else "")


def joined(*parts: Shown) -> Shown:
    """Put texts that may be shown together."""
    return Shown("".join(parts))


def clip(text: Shown, columns: int) -> Shown:
    """Return as much of a line as fits into so many columns of a terminal."""
    for index, character in enumerate(text):
        columns -= width_of(character)
        if columns < 0:
            return Shown(text[:index])
    return text


def columns_of(text: str) -> int:
    """Return how many columns a line takes at most."""
    return sum(map(width_of, text))


@functools.lru_cache(4096)
def width_of(character: str) -> int:
    """Return how many columns a character takes at most; terminals disagree.

    One that is taken for wider than it is costs a little room. One that is wider than it was taken for lets a message
    go on at the margin of the next line.
    """
    from wcwidth import wcwidth

    if character == "\ufe0f":
        return 1  # it makes a narrow picture wide
    width = wcwidth(character)
    if width > 0 or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return max(width, 0)
    return 2  # vowel signs beside their letter, parts of Korean syllables, controls as ^A


def wrapped(text: Shown, columns: int) -> Shown:
    """Return lines broken at spaces before the terminal would break them, what follows indented as further lines are.

    Where the terminal breaks a line itself it goes on at the margin, where only a message of its own may begin. Tabs
    become spaces: a terminal goes as far as its edge with them, and on from there.
    """
    return Shown("\n".join(_wrapped(_without_tabs(part), columns) for part in text.split("\n")))


def _without_tabs(text: str) -> str:
    *parts, last = text.split("\t")
    spaced = ""
    at = 0
    for part in parts:
        at += sum(map(width_of, part))
        spaced += part + " " * (STOP - at % STOP)
        at += STOP - at % STOP
    return spaced + last


def _wrapped(text: str, columns: int) -> str:
    if len(text) * 2 < columns or columns < 2 * len(INDENT):
        return text
    parts: list[str] = []
    begin = at = 0
    space, until = -1, 0
    # The last space of this line, and the columns to its end. The line is broken there, but within what is long: an
    # address, or a script that is written without spaces.
    for index, character in enumerate(text):
        width = width_of(character)
        if at + width > columns:
            if character == " ":
                parts.append(text[begin:index])
                begin, at, width = index + 1, len(INDENT), 0
            elif space > begin and at - until <= columns // 2 and len(INDENT) + at - until + width <= columns:
                parts.append(text[begin:space])
                begin, at = space + 1, len(INDENT) + at - until
            else:
                parts.append(text[begin:index])
                begin, at = index, len(INDENT)
            space = -1
        at += width
        if character == " " and begin <= index:
            space, until = index, at
    rest = text[begin:]
    return ("\n" + INDENT).join([*parts, rest] if rest or not parts else parts)


def faint(text: Shown) -> Shown:
    """Return text in a faint colour."""
    return Shown(f"\x1b[2m{text}\x1b[0m")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"<U+{code:04X}>"


def _visible_in_text(found: re.Match[str]) -> str:
    text = found[0]
    return text if len(text) > 1 or text in "\n\t" or _SEEN.match(found.string, found.start()) else _visible(found)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD800 + (code - 0x10000 >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
