"""How the store opens SQLite, and what SQLite's failures mean to people."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from .errors import StoreDamaged, StoreError

PAGE_CACHE_KIB = 65_536
BUSY_TIMEOUT_S = 10.0
_BLAMELESS = (sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError)
_PRIMARY_CODE = 0xFF


def connect(path: Path, *, writable: bool, as_it_is: bool = False) -> sqlite3.Connection:
    """Open a connection that may go from thread to thread, one at a time. Raises sqlite3.Error.

    WAL with synchronous=FULL: a COMMIT returns after the log's fsync. Checkpoints are the checkpointer's. `as_it_is` is
    for who only looks: the database is not made one with a write-ahead log if it is none.
    """
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        # A damaged text must reach the checksum instead of failing the whole page of rows.
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        if not as_it_is:
            connection.execute("PRAGMA journal_mode = WAL" if writable else "PRAGMA query_only = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB if writable else PAGE_CACHE_KIB // 8}")
    except UnicodeDecodeError as error:
        connection.close()
        raise undecodable(error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def undecodable(error: UnicodeDecodeError) -> sqlite3.DatabaseError:
    """Return what a message of SQLite's that is no text means: it quotes a schema that is damaged."""
    return malformed(f"its schema is no text: {error.reason}")


def is_ours(error: Exception) -> bool:
    """Say whether the store failed; otherwise the function that ran gave SQLite something it cannot store."""
    return isinstance(error, sqlite3.Error) and not isinstance(error, _BLAMELESS)


def concerns_all(error: sqlite3.Error) -> bool:
    """Say whether an error that a reader met is one of the disk or of the whole database, not of this one reader."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)


def malformed(reason: str) -> sqlite3.DatabaseError:
    """Return what SQLite raises on a malformed database, for what it does not notice itself."""
    error = sqlite3.DatabaseError(reason)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """Say in a sentence what SQLite's error means and what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreDamaged(path, str(error))
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"no space left for {path}; free some, and the node goes on by itself")
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(
            f"reading or writing {path} failed ({error}); check the disk's space and health; the node tries again"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreError(f"{path} cannot be opened for writing ({error}); check its permissions and its file system")
    return StoreError(f"{path}: {error}")
