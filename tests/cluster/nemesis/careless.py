"""A node whose store does not wait for the disk, started in place of the real one: never a setting of the product."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from coterie_node.store import store
from coterie_node.store.connections import connect


def careless(path: Path, *, writable: bool, as_it_is: bool = False) -> sqlite3.Connection:
    """Open as the real one does, and then let go of the promise."""
    connection = connect(path, writable=writable, as_it_is=as_it_is)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


if __name__ == "__main__":
    store.connect = careless  # type: ignore[attr-defined]
    from coterie_node.cli.main import main

    main()
