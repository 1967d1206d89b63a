"""The people an account knows: a new one is announced once, and a name that looks like a known one always has a mark.

Of names that look alike the one that was known first is the true one; the others are compared with it, and with nothing
else, however many they are. Two names look alike if their skeletons are the same (Unicode Technical Standard 39,
section 4): every character is replaced by the prototype of those that look like it. User names are in small letters, so
the skeleton is folded too: b0b looks like bob.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from coterie_protocol.words import counted

from . import terminal

if TYPE_CHECKING:
    from .client import Account

MOST_KNOWN = 10_000
"""Names that others are compared with; those known first come first."""

_KNOWN = """
    WITH RECURSIVE peers (name) AS (
        SELECT MIN(peer) FROM messages
        UNION ALL
        SELECT (SELECT MIN(peer) FROM messages WHERE peer > peers.name) FROM peers WHERE peers.name IS NOT NULL
    ), known (name, since) AS (
        SELECT name, added_at FROM contacts
        UNION ALL
        SELECT name, (SELECT MIN(time) FROM messages WHERE peer = peers.name) FROM peers WHERE name IS NOT NULL
    )
    SELECT name FROM known WHERE typeof(name) = 'text' GROUP BY name ORDER BY MIN(since), name LIMIT ?
"""
"""Everybody with whom there is a message, or who is a contact; it reads a row for each, not for each message."""


class Acquaintance:
    """Tells who is new to an account (each name is announced once in its life), and what to call people."""

    def __init__(self, account: Account) -> None:
        self._me = account.session.name
        self._database = account.database
        self._aliases = account.contacts.aliases()
        self._met: set[str] = {self._me}
        self._looks: dict[str, str] | None = None
        """The name that was known first, by what it has in common with those that look like it."""

    def announce(self, names: Iterable[str]) -> list[str]:
        """Return a sentence for each of these names that is new. Ask before their messages are marked as shown."""
        return [self._sentence(name) for name in dict.fromkeys(names) if self._is_new(name)]

    def called(self, name: str) -> str:
        """Return what to call somebody where people read it: alias, name, and whom they only look like."""
        alias = self._aliases.get(name)
        return f"{terminal.field(alias)} ({self.marked(name)})" if alias else self.marked(name)

    def marked(self, name: str) -> str:
        """Return a name, and whom it only looks like."""
        true = self.true_one(name)
        return name if true is None else f"{name} [not {true}]"

    def true_one(self, name: str) -> str | None:
        """Return whom this name only looks like: the one of that look who was known first. None for everybody else."""
        first = self._first_known().setdefault(skeleton(name), name)
        return None if first == name else first

    def warning(self, name: str) -> str | None:
        """Return the sentence about a name that only looks like another one."""
        true = self.true_one(name)
        if true is None:
            return None
        return (
            f"only looks like {true}, whom you know: they are different people; "
            f"compare letter by letter ({spelled(name, true)})"
        )

    def bearer(self, alias: str, name: str) -> str | None:
        """Return who else has this alias, or a name that it looks like, if it were given to `name`."""
        looks = skeleton(alias)
        for other, taken in self._aliases.items():
            if other != name and skeleton(taken) == looks:
                return other
        known = self._first_known().get(looks)
        return None if known == name else known

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
        if (warning := self.warning(name)) is not None:
            return f"{name} is new to you, and {warning}"
        return f"{name} is new to you: no message has gone between you before"

    def _first_known(self) -> dict[str, str]:
        if self._looks is None:
            with self._database.read() as sql:
                names = [row[0] for row in sql.execute(_KNOWN, (MOST_KNOWN,))]
            self._looks = {}
            for name in (self._me, *names):
                self._looks.setdefault(skeleton(name), name)
        return self._looks


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
