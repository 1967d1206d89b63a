"""What the store keeps in memory about what is on disk: counts, mailbox sizes and slot digests.

It describes *committed* state. A transaction notes its changes (`Changes`) and they are applied after its commit, so a
failed one leaves no trace and a reader never sees what may still be undone. Slots and mailboxes are loaded when first
asked for, from a snapshot of their own: `order` makes "commit and apply" one step for whoever opens that snapshot, and
what is committed while it is scanned is applied on top.
"""

from __future__ import annotations

import sqlite3
import threading
from array import array
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from .connections import malformed
from .digests import EMPTY_BUCKETS, SlotDigest, entry_digest
from .rows import ROW_WEIGHT

MAX_BOXES = 65_536
"""Mailboxes whose size is remembered; the longest unused one goes first."""

Box = tuple[int, str, int]
"""(slot, owner, state): the mailbox (pending), the archive, or the deleted records of a user."""
COUNTED = {0: "records_pending", 2: "records_archive", 3: "records_deleted"}
"""The states whose records are counted by owner, with the index that finds them."""


class Contents(NamedTuple):
    """How much a store holds, by slot; empty slots are left out."""

    accounts: dict[int, int]
    """Accounts with a value."""
    records: dict[int, int]
    """Records of any state."""
    pending: dict[int, int]
    archived: dict[int, int]


_LISTED = {
    states: f"SELECT count(*) FROM records INDEXED BY {index} WHERE slot = ? AND state {condition}"  # noqa: S608
    for states, index, condition in (
        ((0,), "records_pending", "= 0"),
        ((2,), "records_archive", "= 2"),
        ((1, 3), "records_tombstones", "IN (1, 3)"),
    )
}
"""How many rows of a slot the index of some states lists."""


class Changes:
    """What one transaction has changed, as far as it is counted."""

    __slots__ = ("accounts", "boxes", "counts", "entries", "recounted", "stale")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        """Records by slot, relative."""
        self.accounts: dict[int, int] = {}
        """Accounts with a value by slot, relative."""
        self.boxes: dict[Box, tuple[int, int]] = {}
        """(number, bytes) of pending and of archived records, relative."""
        self.entries: dict[int, list[tuple[int, int, int]]] = {}
        """(bucket, entry, stored_at) by slot, to be toggled."""
        self.recounted: dict[int, tuple[int, ...]] = {}
        """Records by slot in each of the states COUNTED, for the stale ones: as they are at the transaction's end."""
        self.stale: set[int] = set()
        """Slots to be read anew: a damaged row went, and what it once was cannot be known."""

    def mark(self) -> Changes:
        """Return what `back_to` needs to forget everything noted from now on."""
        kept = Changes()
        kept.counts, kept.accounts, kept.boxes = dict(self.counts), dict(self.accounts), dict(self.boxes)
        # Entries are only ever added: how many there are is enough.
        kept.entries = {slot: [(len(entries), 0, 0)] for slot, entries in self.entries.items()}
        kept.recounted, kept.stale = dict(self.recounted), set(self.stale)
        return kept

    def back_to(self, mark: Changes) -> None:
        """Forget what was noted since a mark was made; a mark serves once."""
        self.counts, self.accounts, self.boxes = mark.counts, mark.accounts, mark.boxes
        self.recounted, self.stale = mark.recounted, mark.stale
        for slot in list(self.entries):
            if slot in mark.entries:
                del self.entries[slot][mark.entries[slot][0][0] :]
            else:
                del self.entries[slot]

    def add(self, slot: int, owner: str, key_hash: bytes, state: int, digest: bytes, stored_at: int, size: int) -> None:
        """Note a version that is now held; `size` is what its row weighs."""
        self._toggle(slot, key_hash, state, digest, stored_at)
        self.counts[slot] = self.counts.get(slot, 0) + 1
        if state in COUNTED:
            number, total = self.boxes.get((slot, owner, state), (0, 0))
            self.boxes[slot, owner, state] = (number + 1, total + size)

    def remove(
        self, slot: int, owner: str, key_hash: bytes, state: int, digest: bytes, stored_at: int, size: int
    ) -> None:
        """Note a version that is held no more."""
        self._toggle(slot, key_hash, state, digest, stored_at)
        self.counts[slot] = self.counts.get(slot, 0) - 1
        if state in COUNTED:
            number, total = self.boxes.get((slot, owner, state), (0, 0))
            self.boxes[slot, owner, state] = (number - 1, total - size)

    def _toggle(self, slot: int, key_hash: bytes, state: int, digest: bytes, stored_at: int) -> None:
        entry = (key_hash[0], entry_digest(key_hash, state, digest), stored_at)
        entries = self.entries.get(slot)
        if entries is None:
            self.entries[slot] = [entry]
        else:
            entries.append(entry)


def add_counts(counts: dict[int, int], changes: dict[int, int]) -> None:
    """Add relative counts; what comes to 0 is left out."""
    for slot, change in changes.items():
        total = counts.get(slot, 0) + change
        if total:
            counts[slot] = total
        else:
            counts.pop(slot, None)


class Tally:
    """Committed counts, mailbox sizes and digests. All methods may be called from any thread."""

    def __init__(self, loader: sqlite3.Connection, now_ms: Callable[[], int]) -> None:
        """Count what is there. `loader` is a connection for this object alone."""
        self.order = threading.Lock()
        """Held by the writer over COMMIT and `apply`."""
        self._loader = loader
        self._now_ms = now_ms
        self._loading = threading.Lock()
        self._memory = threading.Lock()
        self._backlog: list[Changes] | None = None
        self.lost: Callable[[int], None] = lambda slot: None
        """Told, in whatever thread, of a slot of which the disk has other records than were written."""
        self._to_audit: list[int] = []
        self._audited = 0
        """Rows that may be read by the next `audit`."""
        self._digests: dict[int, SlotDigest] = {}
        self._boxes: dict[Box, tuple[int, int]] = {}
        self._counts: dict[int, int] = dict(
            loader.execute("SELECT slot, count(*) FROM records GROUP BY slot").fetchall()
        )
        self._states: dict[int, dict[int, int]] = {
            state: dict(
                loader.execute(
                    f"SELECT slot, count(*) FROM records INDEXED BY {index} WHERE state = {state} GROUP BY slot"  # noqa: S608
                ).fetchall()
            )
            for state, index in COUNTED.items()
        }
        self._accounts: dict[int, int] = dict(
            loader.execute("SELECT slot, count(*) FROM accounts WHERE has_value = 1 GROUP BY slot").fetchall()
        )

    def apply(self, changes: Changes) -> None:
        """Take over what a transaction changed; the writer calls it after the commit, holding `order`."""
        now = self._now_ms()
        with self._memory:
            if self._backlog is not None:
                self._backlog.append(changes)
            for slot, entries in changes.entries.items():
                digest = self._digests.get(slot)
                if digest is None and slot not in self._counts and self._backlog is None:
                    digest = self._digests[slot] = SlotDigest(now)  # It was empty: nothing to load.
                if digest is not None:
                    for bucket, entry, stored_at in entries:
                        digest.toggle(bucket, entry, stored_at, now)
            for box, change in changes.boxes.items():
                held = self._boxes.get(box)
                if held is not None:
                    self._boxes[box] = (held[0] + change[0], held[1] + change[1])
                if change[0]:
                    add_counts(self._states[box[2]], {box[0]: change[0]})
            for slot, numbers in changes.recounted.items():
                for state, number in zip(COUNTED, numbers, strict=True):
                    add_counts(self._states[state], {slot: number - self._states[state].get(slot, 0)})
            add_counts(self._counts, changes.counts)
            add_counts(self._accounts, changes.accounts)
            for slot in changes.stale:
                self._digests.pop(slot, None)
                self._forget_boxes(slot)

    def counts(self) -> dict[int, int]:
        """Return the number of records by slot, empty slots left out."""
        with self._memory:
            return dict(self._counts)

    def accounts(self) -> dict[int, int]:
        """Return the number of accounts with a value by slot, empty slots left out."""
        with self._memory:
            return dict(self._accounts)

    def contents(self) -> Contents:
        """Return all counts, as they were after one commit."""
        with self._memory:
            pending, archived = (dict(self._states[state]) for state in (0, 2))
            return Contents(dict(self._accounts), dict(self._counts), pending, archived)

    def count(self, slot: int) -> int:
        """Return the number of records of a slot."""
        return self._counts.get(slot, 0)

    def account_count(self, slot: int) -> int:
        """Return the number of accounts with a value of a slot."""
        return self._accounts.get(slot, 0)

    def buckets(self, slot: int, before_ms: int) -> array[int] | None:
        """Return a slot's buckets over what was stored before a time; None when that is too long ago to tell."""
        while True:
            with self._memory:
                digest = self._digests.get(slot)
                if digest is not None:
                    return digest.settled(before_ms)
                if slot not in self._counts:
                    return array("Q", EMPTY_BUCKETS)
            self._load_digest(slot)

    def box(self, slot: int, owner: str, state: int) -> tuple[int, int]:
        """Return (number, bytes) of an owner's records in one of the states COUNTED."""
        box = (slot, owner, state)
        while True:
            with self._memory:
                held = self._boxes.pop(box, None)
                if held is not None:
                    self._boxes[box] = held  # Now the most recently used one.
                    return held
                if slot not in self._counts:
                    return (0, 0)
            self._load_box(box)

    def _snapshot(self) -> None:
        """Open a snapshot of which it is known what is committed after it."""
        with self.order:
            self._loader.execute("BEGIN")
            self._loader.execute("SELECT 1 FROM sqlite_schema").fetchone()
            self._backlog = []

    def _release(self) -> None:
        with self._memory:
            self._backlog = None
        if self._loader.in_transaction:
            self._loader.execute("ROLLBACK")

    def audit(self, rows: int) -> None:
        """Read some slots' digests anew, one after the other, and tell of one that was not what memory has.

        The digests in memory follow what is written. A disk that loses what it has synced would not be missed by any
        comparison until the next start; read anew, the difference is seen, and repair fetches what is gone. `rows` are
        what one call may read; a larger slot has its turn after as many calls as it takes.
        """
        with self._memory:
            if not self._to_audit:
                self._to_audit = sorted(self._digests, reverse=True)
            self._audited += rows
            due: list[int] = []
            while self._to_audit and (count := self._counts.get(self._to_audit[-1], 0)) <= self._audited:
                self._audited -= count
                due.append(self._to_audit.pop())
            if not self._to_audit:
                self._audited = 0
        for slot in due:
            if self._load_digest(slot, anew=True):
                self.lost(slot)

    def _load_digest(self, slot: int, *, anew: bool = False) -> bool:
        """Read a slot's digest from the disk unless it is known; `anew`: say whether it was known as another."""
        with self._loading:
            if (slot in self._digests) != anew:
                return False
            try:
                self._snapshot()
                now = self._now_ms()
                digest = SlotDigest(now)
                states: Counter[int] = Counter()
                rows = self._loader.execute(
                    "SELECT hash, state, digest, stored_at FROM records WHERE slot = ?", (slot,)
                )
                for key_hash, state, record_digest, stored_at in rows:
                    if not (
                        isinstance(key_hash, bytes)
                        and key_hash
                        and isinstance(state, int)
                        and isinstance(record_digest, bytes)
                        and isinstance(stored_at, int)
                    ):
                        # Damage can change a value's type, too. It counts as not held; who reads it puts it aside.
                        states[state] += 1
                        continue
                    digest.toggle(key_hash[0], entry_digest(key_hash, state, record_digest), stored_at, now)
                    states[state] += 1
                self._compare_indexes(slot, states)
                number = states.total()
                with self.order, self._memory:
                    backlog = self._backlog or []
                    if any(slot in changes.stale for changes in backlog):
                        return False
                    for changes in backlog:
                        number += changes.counts.get(slot, 0)
                        for bucket, entry, stored_at in changes.entries.get(slot, ()):
                            digest.toggle(bucket, entry, stored_at, now)
                    known = self._digests.get(slot)
                    self._digests[slot] = digest
                    if known is None or known.same(digest):
                        return False
                    add_counts(self._counts, {slot: number - self._counts.get(slot, 0)})
                    self._forget_boxes(slot)
                    return True
            finally:
                self._release()

    def _compare_indexes(self, slot: int, states: Counter[int]) -> None:
        """Raise sqlite3.DatabaseError where an index lists more or fewer rows of a slot than there are.

        What it leaves out would never be shown to its recipient, nor be missed.
        """
        for some, sql in _LISTED.items():
            (listed,) = self._loader.execute(sql, (slot,)).fetchone()
            if listed != sum(states[state] for state in some):
                raise malformed(f"an index of slot {slot} disagrees with its table")

    def _forget_boxes(self, slot: int) -> None:
        for box in [box for box in self._boxes if box[0] == slot]:
            del self._boxes[box]

    def _load_box(self, box: Box) -> None:
        slot, _, state = box
        with self._loading:
            if box in self._boxes:
                return
            try:
                self._snapshot()
                number, total = self._loader.execute(
                    f"SELECT count(*), coalesce(sum({ROW_WEIGHT}), 0) FROM records AS r INDEXED BY {COUNTED[state]}"  # noqa: S608
                    f" WHERE slot = ? AND owner = ? AND state = {state}",
                    box[:2],
                ).fetchone()
                with self.order, self._memory:
                    backlog = self._backlog or []
                    if any(slot in changes.stale for changes in backlog):
                        return
                    for changes in backlog:
                        change = changes.boxes.get(box, (0, 0))
                        number, total = number + change[0], total + change[1]
                    if len(self._boxes) >= MAX_BOXES:
                        del self._boxes[next(iter(self._boxes))]
                    self._boxes[box] = (number, total)
            finally:
                self._release()
