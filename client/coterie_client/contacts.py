"""The people whom a user wants to find again, on this device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import ClientError

if TYPE_CHECKING:
    from .database import Database


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody in the contact list."""

    name: str
    alias: str
    """What to show beside the name; empty for nothing."""
    added_at: int
    """Unix ms."""


_ALL = """
    SELECT name, alias, added_at FROM contacts
    WHERE typeof(name) = 'text' AND typeof(alias) = 'text' AND typeof(added_at) = 'integer'
"""
"""A value of another kind, which this program never writes, takes no other contact along."""


class Contacts:
    """Reads and writes the contact list of one account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Contact]:
        """Return everybody, by alias or name."""
        with self._database.read() as sql:
            rows = sql.execute(_ALL).fetchall()
        return sorted((Contact(*row) for row in rows), key=lambda c: ((c.alias or c.name).casefold(), c.name))

    def aliases(self) -> dict[str, str]:
        """Return the aliases by name, of those who have one."""
        return {contact.name: contact.alias for contact in self.all() if contact.alias}

    def add(self, name: str, alias: str, now: int) -> None:
        """Add somebody; raises ClientError if they are there."""
        with self._database.write() as sql:
            done = sql.execute("INSERT INTO contacts VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (name, alias, now))
        if not done.rowcount:
            raise ClientError(f"{name} is in your contacts already; to change the alias run: coterie contacts rename")

    def remove(self, name: str) -> None:
        """Remove somebody; raises ClientError if they are not there."""
        with self._database.write() as sql:
            done = sql.execute("DELETE FROM contacts WHERE name = ?", (name,))
        if not done.rowcount:
            raise ClientError(f"{name} is not in your contacts; coterie contacts lists who is")

    def rename(self, name: str, alias: str) -> None:
        """Change what is shown for somebody; raises ClientError if they are not there."""
        with self._database.write() as sql:
            done = sql.execute("UPDATE contacts SET alias = ? WHERE name = ?", (alias, name))
        if not done.rowcount:
            raise ClientError(f"{name} is not in your contacts; add them with: coterie contacts add {name}")
