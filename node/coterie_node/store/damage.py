"""A note beside a database that the running node has found broken: it is not opened again until it was looked at.

Without it a node that is started again would go on confirming, upon a broken database, until it met the damage again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

NOTE_NAME = "coterie.db-damaged"


def condemn(database: Path, reason: str) -> None:
    """Leave the note. A disk that does not even take that is no reason to fail."""
    with suppress(OSError), open(database.with_name(NOTE_NAME), "w", encoding="utf-8") as file:
        file.write(reason)
        file.flush()
        os.fsync(file.fileno())


def verdict(database: Path) -> str:
    """Return what was found; empty if there is no such note, or no database that it could mean."""
    if not database.exists():
        absolve(database)
    try:
        return database.with_name(NOTE_NAME).read_text("utf-8") or "found by the running node"
    except FileNotFoundError:
        return ""


def absolve(database: Path) -> None:
    """Take the note away."""
    database.with_name(NOTE_NAME).unlink(missing_ok=True)
