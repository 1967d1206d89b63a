"""Connections that only read, each lent to one thread at a time."""

from __future__ import annotations

import queue
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from .connections import concerns_all, is_ours, store_error, undecodable
from .errors import StoreError
from .tx import Transaction

T = TypeVar("T")


class Readers:
    """A small pool: reads run beside the writer, each on the committed state at its beginning."""

    def __init__(
        self,
        path: Path,
        readers: list[tuple[sqlite3.Connection, Transaction]],
        failed: Callable[[StoreError], None],
    ) -> None:
        """`failed` is told, in a reader's thread, what the reader met that concerns the whole store."""
        self._path = path
        self._failed = failed
        self._free: queue.SimpleQueue[tuple[sqlite3.Connection, Transaction]] = queue.SimpleQueue()
        for reader in readers:
            self._free.put(reader)
        self._count = len(readers)
        self.executor = ThreadPoolExecutor(len(readers), "store-reader")

    def run(self, function: Callable[[Transaction], T]) -> T:
        """Run a function in one read transaction; in one of the executor's threads. Raises StoreError."""
        connection, transaction = reader = self._free.get()
        try:
            transaction.begin()
            connection.execute("BEGIN")
            try:
                return function(transaction)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except (sqlite3.Error, UnicodeDecodeError) as raised:
            error = undecodable(raised) if isinstance(raised, UnicodeDecodeError) else raised
            if not is_ours(error):
                raise
            failure = store_error(error, self._path)
            if concerns_all(error):
                self._failed(failure)
            raise failure from error
        finally:
            self._free.put(reader)

    def close(self) -> None:
        """Wait for running reads and close the connections."""
        self.executor.shutdown(wait=True)
        for _ in range(self._count):
            self._free.get()[0].close()
