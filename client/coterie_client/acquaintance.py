"""The people an account knows: a new one is announced once, with a warning if the name looks like a known one.

Two names look alike if their skeletons are the same (Unicode Technical Standard 39, section 4): every character is
replaced by the prototype of those that look like it. User names are in small letters, so the skeleton is folded too:
b0b looks like bob.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from coterie_protocol.words import counted

if TYPE_CHECKING:
    from .client import Account

MOST_KNOWN = 10_000
"""Names that a new one is compared with; those written with last come first."""


class Acquaintance:
    """Tells who is new to an account. Each name is announced once in its life."""

    def __init__(self, account: Account) -> None:
        self._me = account.session.name
        self._database = account.database
        self._met: set[str] = {self._me}

    def announce(self, names: Iterable[str]) -> list[str]:
        """Return a sentence for each of these names that is new. Ask before their messages are marked as shown."""
        return [self._sentence(name) for name in dict.fromkeys(names) if self._is_new(name)]

    def _is_new(self, name: str) -> bool:
        if name in self._met:
            return False
        self._met.add(name)
        with self._database.read() as sql:
            known = sql.execute(
                "SELECT EXISTS (SELECT 1 FROM contacts WHERE name = ?) "
                "OR EXISTS (SELECT 1 FROM messages WHERE peer = ? AND shown = 1)",
                (name, name),
            ).fetchone()[0]
        return not known

    def _sentence(self, name: str) -> str:
        alike = self._alike(name)
        if alike is None:
            return f"{name} is new to you: no message has gone between you before"
        return (
            f"{name} is new to you, and only looks like {alike}, whom you know: they are different people; "
            f"compare letter by letter ({spelled(name, alike)})"
        )

    def _alike(self, name: str) -> str | None:
        looks = skeleton(name)
        with self._database.read() as sql:
            rows = sql.execute(
                "SELECT name FROM contacts UNION ALL "
                "SELECT peer FROM (SELECT peer, MAX(seq) AS last FROM messages WHERE shown = 1 GROUP BY peer "
                "ORDER BY last DESC) LIMIT ?",
                (MOST_KNOWN,),
            )
            known = [self._me, *(row[0] for row in rows)]
        return next((other for other in known if other != name and skeleton(other) == looks), None)


def spelled(name: str, other: str) -> str:
    """Name the first character in which a name differs from the one that it looks like."""
    for mine, theirs in zip(name, other, strict=False):
        if mine != theirs:
            return f"{_named(mine)} is not {_named(theirs)}"
    return f"{counted(len(name), 'character')}, not {len(other)}"


def _named(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, 'of no name')}"


def skeleton(name: str) -> str:
    """Return what a name has in common with those that look like it; not for people to read."""
    prototypes = _prototypes()
    looks = unicodedata.normalize("NFD", name)
    for _ in range(3):  # folding may make a letter that has a prototype itself
        replaced = "".join(prototypes.get(character, character) for character in looks)
        looks = unicodedata.normalize("NFD", replaced.casefold())
    return looks


@cache
def _prototypes() -> dict[str, str]:
    text = resources.files("coterie_client").joinpath("confusables.txt").read_text(encoding="utf-8")
    rows = (line.split(" ") for line in text.splitlines() if not line.startswith("#"))
    return {_character(row[0]): "".join(map(_character, row[1:])) for row in rows}


def _character(code: str) -> str:
    return chr(int(code, 16))
