"""The whole transaction: meta values, registers and records over one connection."""

from __future__ import annotations

from .ages import AgeTx
from .connections import malformed
from .registers import RegisterTx


class Transaction(RegisterTx, AgeTx):
    """Implements `runtime.ports.Tx`."""

    def meta(self, key: str) -> bytes | None:
        """Return a named value."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is not None and not isinstance(row[0], bytes):
            raise malformed(f"the value {key!r} is no bytes")
        return None if row is None else bytes(row[0])

    def put_meta(self, key: str, value: bytes | None) -> None:
        """Set a named value, or remove it (None)."""
        self._write()
        if value is None:
            self._connection.execute("DELETE FROM meta WHERE key = ?", (key,))
        else:
            self._connection.execute(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
            )

    def forget_everything(self) -> None:
        """Delete all registers, accounts and records; meta values and the mark stay.

        Only for a node that takes another uid with it: as the same one it would break its promises.
        """
        self._write()
        for table in ("slot_registers", "accounts", "records", "damaged_records"):
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - no data in it
        for slot, count in self._tally.counts().items():
            self.changes.counts[slot] = self.changes.counts.get(slot, 0) - count
            self.changes.stale.add(slot)
        for slot, count in self._tally.accounts().items():
            self.changes.accounts[slot] = self.changes.accounts.get(slot, 0) - count
