"""A store seen by the witness: every commit is told right after its fsync, before anybody can answer because of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from tests.sim.invariants import Violation, Witness

from coterie_node.runtime.ports import FIRST, NO_LIMIT_MS, Store, Tx
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record, Version
from coterie_protocol.registers import AccountRegister, SlotRegister

T = TypeVar("T")
Note = Callable[[Witness, Uid], None]


class NotingTx:
    """A `Tx` that notes what its user writes."""

    def __init__(self, tx: Tx, notes: list[Note]) -> None:
        self._tx = tx
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    def put_slot_register(self, slot: int, register: SlotRegister) -> None:
        self._tx.put_slot_register(slot, register)
        self._notes.append(lambda witness, uid: witness.slot_register(uid, slot, register))

    def put_account(self, slot: int, name: str, register: AccountRegister) -> None:
        self._tx.put_account(slot, name, register)
        self._notes.append(lambda witness, uid: witness.account(uid, slot, name, register))

    def drop_accounts(self, slot: int) -> int:
        self._notes.append(lambda witness, uid: witness.accounts_dropped(uid, slot))
        return self._tx.drop_accounts(slot)

    def insert(self, record: Record) -> Record | None:
        held = self._tx.insert(record)
        if held is None:
            self._note_records((record,))
        return held

    def insert_many(self, records: Sequence[Record]) -> list[Record | None]:
        answers = self._tx.insert_many(records)
        self._note_records(record for record, held in zip(records, answers, strict=True) if held is None)
        return answers

    def merge(self, records: Sequence[Record]) -> list[Record]:
        changed = self._tx.merge(records)
        self._note_records(changed)
        return changed

    def give_up(self, versions: Sequence[Version]) -> int:
        held = {version.key for version in versions if self._tx.record(version.key) is not None}
        count = self._tx.give_up(versions)
        for key in held:
            if self._tx.record(key) is None:
                self._notes.append(lambda witness, uid, key=key: witness.record_gone(uid, key))  # type: ignore[misc]
        return count

    def _note_records(self, records: Iterable[Record]) -> None:
        for record in records:
            self._notes.append(lambda witness, uid, record=record: witness.record(uid, record))  # type: ignore[misc]


class WatchedStore:
    """`ports.Store` of one process upon its disk; it does nothing more once the process has died."""

    def __init__(self, disk: Store, uid: Uid, witness: Witness) -> None:
        self._disk = disk
        self._uid = uid
        self._witness = witness
        self._dead = False

    def kill(self) -> None:
        """Let the process write and read nothing more."""
        self._dead = True

    async def transact(self, function: Callable[[Tx], T]) -> T:
        """Run a function on the disk and tell the witness what became durable."""
        self._check()
        notes: list[Note] = []

        def noting(tx: Tx) -> T:
            notes.clear()
            return function(cast(Tx, NotingTx(tx, notes)))

        result = await self._disk.transact(noting)
        self._check()
        for note in notes:
            try:
                note(self._witness, self._uid)
            except Violation:
                break  # The witness keeps it, and the world ends the run with it.
        return result

    async def read(self, function: Callable[[Tx], T]) -> T:
        """Read committed state."""
        self._check()
        result = await self._disk.read(function)
        self._check()
        return result

    def _check(self) -> None:
        if self._dead:
            raise asyncio.CancelledError("the process has died")


def whole_disk(
    tx: Tx, slots: int
) -> tuple[dict[int, SlotRegister], dict[tuple[int, str], AccountRegister], list[Record]]:
    """Read everything: slot registers, accounts by (slot, name), records."""
    registers = dict(tx.slot_registers())
    accounts = {(slot, name): held for slot in range(slots) for name, held in tx.accounts(slot, "", 1 << 20)}
    records = []
    for slot in tx.slots_with_records():
        for version in tx.versions(slot, None, FIRST, 1 << 20, NO_LIMIT_MS):
            if (record := tx.record(version.key)) is not None:  # None: it was found to be damaged.
                records.append(record)
    return registers, accounts, records
