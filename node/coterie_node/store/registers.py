"""Consensus state: slot configurations, accounts, and the high-water mark of what was ever promised (rule 15).

Every row carries a checksum. A damaged one raises RegisterDamaged, whose docstring says what an acceptor makes of it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from coterie_protocol.bounds import MAX_COUNT
from coterie_protocol.registers import AccountBallot, AccountRegister, Ballot, SlotRegister

from .base import BaseTx
from .counters import add_counts
from .errors import RegisterDamaged, StoreDamaged

CHECK_BYTES = 16
MARK_STEP = 64
"""The mark on disk is kept up to this much ahead, so that it is seldom written."""
MOST_MARK = MAX_COUNT - 1
"""The most that may travel: a damaged register answers with it."""
LAST_PROPOSER = "\U0010ffff"
"""Greater than every proposer id."""

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode
_slot_register = msgspec.msgpack.Decoder(SlotRegister)
_account_register = msgspec.msgpack.Decoder(AccountRegister)


def _check(slot: int, name: str, row: bytes) -> bytes:
    return hashlib.blake2b(f"{slot}\0{name}\0".encode() + row, digest_size=CHECK_BYTES).digest()


def _sound(slot: int, name: str, row: bytes, check: bytes) -> bool:
    return isinstance(row, bytes) and _check(slot, name, row) == check  # Damage can change a value's type, too.


def _mark_check(counter: int) -> bytes:
    return hashlib.blake2b(b"mark %d" % counter, digest_size=CHECK_BYTES).digest()


def read_mark(connection: sqlite3.Connection, path: Path) -> int:
    """Return the mark of a store that is being opened, beginning it in a new one.

    Raises StoreDamaged when it is lost: without it the node could break a promise, so it must return as a new one.
    """
    row = connection.execute("SELECT counter, mark_check FROM mark WHERE id = 1").fetchone()
    if row is None:
        if connection.execute("SELECT 1 FROM slot_registers UNION ALL SELECT 1 FROM accounts LIMIT 1").fetchone():
            raise StoreDamaged(path, "the mark of promised ballots is missing")
        connection.execute("INSERT INTO mark VALUES (1, 0, ?)", (_mark_check(0),))
        return 0
    if not isinstance(row[0], int) or row[1] != _mark_check(row[0]):
        raise StoreDamaged(path, "the mark of promised ballots fails its checksum")
    return int(row[0])


def decoded_slot(slot: int, row: bytes, check: bytes) -> SlotRegister | None:
    """Return a slot's register as its row holds it; None when that fails its checksum."""
    return _decoded(_slot_register, row) if _sound(slot, "", row, check) else None


def decoded_account(slot: int, name: str, row: bytes, check: bytes) -> AccountRegister | None:
    """Return an account's register as its row holds it; None when that fails its checksum."""
    return _decoded(_account_register, row) if _sound(slot, name, row, check) else None


def _decoded(decoder: msgspec.msgpack.Decoder[T], row: bytes) -> T | None:
    """Return a row's register; None for one that no release should have written: it is damaged like any other."""
    try:
        return decoder.decode(row)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


class RegisterTx(BaseTx):
    """Reads and writes registers."""

    def mark(self) -> int:
        """Return a ballot counter at least as high as every one ever promised here."""
        return int(self._connection.execute("SELECT counter FROM mark WHERE id = 1").fetchone()[0])

    def _raise_mark(self, counter: int) -> None:
        if counter > self.mark():
            raised = min(counter + MARK_STEP, MOST_MARK)
            self._connection.execute(
                "UPDATE mark SET counter = ?, mark_check = ? WHERE id = 1", (raised, _mark_check(raised))
            )

    # --- slot configurations ---
    def slot_register(self, slot: int) -> SlotRegister | None:
        """Return the acceptor state of a slot; None when the node never heard of it. Raises RegisterDamaged."""
        row = self._connection.execute(
            "SELECT register, row_check FROM slot_registers WHERE slot = ?", (slot,)
        ).fetchone()
        if row is None:
            return None
        register = decoded_slot(slot, *row)
        if register is None:
            self.suspects.add((slot, None))
            raise RegisterDamaged(slot, None, Ballot(self.mark(), LAST_PROPOSER))
        return register

    def slot_registers(self) -> Iterable[tuple[int, SlotRegister]]:
        """Return all sound ones, by slot; a damaged one is left out, as if the node had never heard of the slot."""
        rows = self._connection.execute("SELECT slot, register, row_check FROM slot_registers ORDER BY slot").fetchall()
        decoded = [(slot, decoded_slot(slot, row, check)) for slot, row, check in rows]
        self.suspects.update((slot, None) for slot, register in decoded if register is None)
        return [(slot, register) for slot, register in decoded if register is not None]

    def put_slot_register(self, slot: int, register: SlotRegister) -> None:
        """Write one. The node-wide high-water mark of promised ballots is raised with it (rule 15)."""
        row = _encode(register)
        self._write()
        self._connection.execute(
            "INSERT INTO slot_registers VALUES (?, ?, ?)"
            " ON CONFLICT (slot) DO UPDATE SET register = excluded.register, row_check = excluded.row_check",
            (slot, row, _check(slot, "", row)),
        )
        self._raise_mark(max(register.promised.counter, register.accepted.counter))

    # --- damage ---
    def damaged_registers(self, slots: Iterable[int] = ()) -> list[tuple[int, str | None]]:
        """Return (slot, name, or None for the slot's own) of registers that were found damaged and still are.

        Looks at the registers and accounts of `slots` first.
        """
        for slot in slots:
            self.suspects.add((slot, None))  # If it is sound it goes again below.
            rows = self._connection.execute("SELECT name, register, row_check FROM accounts WHERE slot = ?", (slot,))
            for name, row, check in rows:
                if not _sound(slot, name, row, check):
                    self.suspects.add((slot, str(name)))  # Damage can change a value's type, too.
        damaged = []
        for place in sorted(self.suspects, key=lambda place: (place[0], place[1] or "")):
            if self._is_damaged(*place):
                damaged.append(place)
            else:
                self.suspects.discard(place)
        return damaged

    def _is_damaged(self, slot: int, name: str | None) -> bool:
        if name is None:
            found = self._connection.execute("SELECT register, row_check FROM slot_registers WHERE slot = ?", (slot,))
        else:
            found = self._connection.execute(
                "SELECT register, row_check FROM accounts WHERE slot = ? AND name = ?", (slot, name)
            )
        row = found.fetchone()
        return row is not None and not _sound(slot, name or "", *row)

    # --- accounts ---
    def account(self, slot: int, name: str) -> AccountRegister | None:
        """Return the acceptor state of an account. Raises RegisterDamaged."""
        row = self._connection.execute(
            "SELECT register, row_check FROM accounts WHERE slot = ? AND name = ?", (slot, name)
        ).fetchone()
        return None if row is None else self._decode_account(slot, name, *row)

    def put_account(self, slot: int, name: str, register: AccountRegister) -> None:
        """Write one. The node-wide high-water mark of promised ballots is raised with it (rule 15)."""
        before = self._connection.execute(
            "SELECT has_value FROM accounts WHERE slot = ? AND name = ?", (slot, name)
        ).fetchone()
        has_value = int(register.value is not None)
        row = _encode(register)
        self._write()
        self._connection.execute(
            "INSERT INTO accounts VALUES (?, ?, ?, ?, ?) ON CONFLICT (slot, name) DO UPDATE"
            " SET has_value = excluded.has_value, register = excluded.register, row_check = excluded.row_check",
            (slot, name, has_value, row, _check(slot, name, row)),
        )
        self._count_account(slot, has_value - (before[0] if before else 0))
        self._raise_mark(max(register.promised.counter, register.accepted.counter))

    def accounts(self, slot: int, after: str, limit: int) -> list[tuple[str, AccountRegister]]:
        """Return up to `limit` accounts of a slot with names greater than `after`, in order.

        Raises RegisterDamaged: a list with a hole in it would pass for complete (rule 12).
        """
        rows = self._connection.execute(
            "SELECT name, register, row_check FROM accounts WHERE slot = ? AND name > ? ORDER BY name LIMIT ?",
            (slot, after, limit),
        ).fetchall()
        return [(name, self._decode_account(slot, name, row, check)) for name, row, check in rows]

    def account_names(self, slot: int, after: str, limit: int) -> list[str]:
        """Return up to `limit` names of a slot greater than `after`, in order, damaged registers' ones too."""
        rows = self._connection.execute(
            "SELECT name FROM accounts WHERE slot = ? AND name > ? ORDER BY name LIMIT ?", (slot, after, limit)
        )
        return [str(name) for (name,) in rows]

    def account_count(self, slot: int) -> int:
        """Return how many accounts with an accepted value a slot holds here."""
        return self._tally.account_count(slot) + self.changes.accounts.get(slot, 0)

    def drop_accounts(self, slot: int) -> int:
        """Forget a slot's account values (rule 13); return how many."""
        self._write()
        valued = self.account_count(slot)
        self._connection.execute("DELETE FROM accounts WHERE slot = ?", (slot,))
        self._count_account(slot, -valued)
        return valued

    def slots_with_accounts(self) -> dict[int, int]:
        """Return the number of accounts with a value by slot, empty slots left out."""
        counts = self._tally.accounts()
        add_counts(counts, self.changes.accounts)
        return counts

    def _count_account(self, slot: int, change: int) -> None:
        if change:
            self.changes.accounts[slot] = self.changes.accounts.get(slot, 0) + change

    def _decode_account(self, slot: int, name: str, row: bytes, check: bytes) -> AccountRegister:
        register = decoded_account(slot, name, row, check)
        if register is not None:
            return register
        self.suspects.add((slot, str(name)))
        held = self.slot_register(slot)
        epoch = 0 if held is None or held.config is None else held.config.epoch
        raise RegisterDamaged(slot, name, AccountBallot(epoch, self.mark(), LAST_PROPOSER))
