"""`ports.Store` in memory, with a simulated fsync: a crash forgets what was not synced.

Transactions run in order on the volatile state. What is queued while one fsync runs shares the next (group commit),
and their callers hear of it only then.

What is true of the real store, SQLite with a write-ahead log, is true here:

- A group is one transaction, and the log counts as written up to its last whole commit. A crash in the middle of an
  fsync therefore keeps either all of the group or, if a frame of it is torn, nothing.
- A group whose fsync failed is undone, and its callers are told so. But its frames stand in the log until the next
  group is written over them: if the process dies before that, the next one may find them, and then the group is there.
- A full disk refuses whatever writes; what is there can be read.
- A record whose body has a flipped bit still counts in digests and versions, which are kept beside it. Whoever reads
  the body finds out, and from then on it counts as not held. A flipped register is found at each reading.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar, cast

from coterie_node.runtime.ports import StoreError, Tx
from coterie_node.store.digests import entry_digest, pack_buckets, slot_digest_of
from coterie_node.store.errors import RegisterDamaged, Unstorable
from coterie_node.store.registers import LAST_PROPOSER
from coterie_protocol.records import (
    BUCKETS,
    Record,
    RecordKey,
    State,
    Version,
    fault_of,
    key_hash,
    record_digest,
    version_of,
    wins,
)
from coterie_protocol.registers import AccountBallot, AccountRegister, Ballot, SlotRegister
from coterie_protocol.weight import weight_of_record, weight_of_row

T = TypeVar("T")


@lru_cache(1 << 14)
def _facts(record: Record) -> tuple[bytes, bytes, int]:
    """Return what the real store keeps beside a record: the hash of its key, its digest, and its part of digests."""
    key, digest = key_hash(record.key), record_digest(record)
    return key, digest, entry_digest(key, record.state, digest)


Write = Callable[["_State"], None]


def _check(records: Sequence[Record]) -> None:
    for record in records:
        if fault := fault_of(record):
            raise Unstorable(record, fault)


@dataclass
class _State:
    """What a disk holds."""

    meta: dict[str, bytes] = field(default_factory=dict)
    slots: dict[int, SlotRegister] = field(default_factory=dict)
    accounts: dict[int, dict[str, AccountRegister]] = field(default_factory=dict)
    records: dict[int, dict[RecordKey, Record]] = field(default_factory=dict)
    damaged: set[int] = field(default_factory=set)
    """Slots whose register fails its checksum."""
    damaged_accounts: set[tuple[int, str]] = field(default_factory=set)
    """Accounts whose register does."""
    spoiled: set[RecordKey] = field(default_factory=set)
    """Records whose bodies fail their checksum, and nobody has noticed."""
    mark: int = 0
    """The high-water mark of promised ballots (rule 15), outside the registers."""

    def copy(self) -> _State:
        return _State(
            dict(self.meta),
            dict(self.slots),
            {slot: dict(held) for slot, held in self.accounts.items()},
            {slot: dict(held) for slot, held in self.records.items()},
            set(self.damaged),
            set(self.damaged_accounts),
            set(self.spoiled),
            self.mark,
        )


class _Transaction:
    """`ports.Tx`: writes go to the state at once and to a log that can be undone, or done again on the durable one."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self.redo: list[Write] = []

    def _write(self, write: Write) -> None:
        write(self._state)
        self.redo.append(write)

    def meta(self, key: str) -> bytes | None:
        return self._state.meta.get(key)

    def put_meta(self, key: str, value: bytes | None) -> None:
        def write(state: _State) -> None:
            if value is None:
                state.meta.pop(key, None)
            else:
                state.meta[key] = value

        self._write(write)

    def slot_register(self, slot: int) -> SlotRegister | None:
        if slot in self._state.damaged:
            raise RegisterDamaged(slot, None, Ballot(self._state.mark, LAST_PROPOSER))
        return self._state.slots.get(slot)

    def slot_registers(self) -> Iterable[tuple[int, SlotRegister]]:
        return sorted(item for item in self._state.slots.items() if item[0] not in self._state.damaged)

    def put_slot_register(self, slot: int, register: SlotRegister) -> None:
        def write(state: _State) -> None:
            state.slots[slot] = register
            state.damaged.discard(slot)
            state.mark = max(state.mark, register.promised.counter)

        self._write(write)

    def forget_slot_register(self, slot: int) -> None:
        """Drop a register: no real transaction can, for it is never deleted. A mutation does."""
        self._write(lambda state: cast(None, state.slots.pop(slot, None)))

    def mark(self) -> int:
        return self._state.mark

    def damaged_registers(self, slots: Iterable[int] = ()) -> list[tuple[int, str | None]]:
        suspects = [place for place in self._state.damaged_accounts if place[0] in set(slots)]
        return [*((slot, None) for slot in sorted(self._state.damaged)), *sorted(suspects)]

    def account(self, slot: int, name: str) -> AccountRegister | None:
        if (slot, name) in self._state.damaged_accounts:
            held = self.slot_register(slot)
            epoch = held.config.epoch if held is not None and held.config is not None else 0
            raise RegisterDamaged(slot, name, AccountBallot(epoch, self._state.mark, LAST_PROPOSER))
        return self._state.accounts.get(slot, {}).get(name)

    def put_account(self, slot: int, name: str, register: AccountRegister) -> None:
        def write(state: _State) -> None:
            state.accounts.setdefault(slot, {})[name] = register
            state.damaged_accounts.discard((slot, name))
            state.mark = max(state.mark, register.promised.counter)

        self._write(write)

    def accounts(self, slot: int, after: str, limit: int) -> list[tuple[str, AccountRegister]]:
        page = [item for item in sorted(self._state.accounts.get(slot, {}).items()) if item[0] > after][:limit]
        for name, _ in page:
            self.account(slot, name)
        return page

    def account_names(self, slot: int, after: str, limit: int) -> list[str]:
        return sorted(name for name in self._state.accounts.get(slot, {}) if name > after)[:limit]

    def account_count(self, slot: int) -> int:
        return sum(held.value is not None for held in self._state.accounts.get(slot, {}).values())

    def drop_accounts(self, slot: int) -> int:
        count = self.account_count(slot)

        def write(state: _State) -> None:
            state.accounts.pop(slot, None)
            state.damaged_accounts = {place for place in state.damaged_accounts if place[0] != slot}

        self._write(write)
        return count

    def scrub(self, after: int, limit: int) -> int:
        for key in sorted(self._state.spoiled):
            self._put_aside(key)
        return 0

    def insert(self, record: Record) -> Record | None:
        held = self.record(record.key)
        if held is None:
            self._put(record)
        return held

    def insert_many(self, records: Sequence[Record]) -> list[Record | None]:
        _check(records)
        return [self.insert(record) for record in records]

    def merge(self, records: Sequence[Record]) -> list[Record]:
        _check(records)
        changed = []
        for record in records:
            held = self.record(record.key)
            if held is None or wins((record.state, _facts(record)[1]), (held.state, _facts(held)[1])):
                self._put(record)
                changed.append(record)
        return changed

    def _put(self, record: Record) -> None:
        key = record.key

        def write(state: _State) -> None:
            state.records.setdefault(key.slot, {})[key] = record
            state.spoiled.discard(key)

        self._write(write)

    def records(self, keys: Sequence[RecordKey]) -> list[Record | None]:
        return [self.record(key) for key in keys]

    def record(self, key: RecordKey) -> Record | None:
        if key in self._state.spoiled:
            self._put_aside(key)
        return self._state.records.get(key.slot, {}).get(key)

    def _put_aside(self, key: RecordKey) -> None:
        """Let a record that was found to be damaged count as not held."""

        def write(state: _State) -> None:
            if key in state.spoiled:
                state.spoiled.discard(key)
                del state.records[key.slot][key]

        self._write(write)

    def _owned(self, slot: int, owner: str, state: State) -> list[tuple[tuple[int, bytes], Record]]:
        for key in [key for key in self._state.spoiled if key.slot == slot and key.owner == owner]:
            self._put_aside(key)
        held = self._state.records.get(slot, {}).values()
        return sorted(
            ((record.stored_at, _facts(record)[0]), record)
            for record in held
            if record.owner == owner and record.state == state
        )

    def pending(self, slot: int, owner: str, after: tuple[int, bytes], limit: int, max_bytes: int) -> list[Record]:
        page = [record for at, record in self._owned(slot, owner, State.PENDING) if at > after]
        return _page(page, limit, max_bytes)

    def archive_page(
        self, slot: int, owner: str, before: tuple[int, bytes] | None, limit: int, max_bytes: int
    ) -> list[Record]:
        found = reversed(self._owned(slot, owner, State.ARCHIVED))
        page = [record for at, record in found if record.part == 0 and (before is None or at < before)]
        return _page(page, limit, max_bytes)

    def mailbox_size(self, slot: int, owner: str, since_ms: int = 0) -> tuple[int, int]:
        held = [record for at, record in self._owned(slot, owner, State.PENDING) if at[0] >= since_ms]
        return len(held), sum(map(_row, held))

    def archive_size(self, slot: int, owner: str) -> tuple[int, int]:
        held = self._owned(slot, owner, State.ARCHIVED)
        return len(held), sum(_row(record) for _, record in held)

    def deleted_size(self, slot: int, owner: str) -> tuple[int, int]:
        held = self._owned(slot, owner, State.DELETED)
        return len(held), sum(_row(record) for _, record in held)

    def pending_before(self, slot: int, before_ms: int, limit: int) -> list[Record]:
        held = self._state.records.get(slot, {}).values()
        found = [one for one in held if one.state == State.PENDING and one.stored_at < before_ms]
        return sorted(found, key=lambda one: (one.owner, one.stored_at, _facts(one)[0]))[:limit]

    def tombstones_before(self, slot: int, before_ms: int, limit: int) -> list[Version]:
        held = self._state.records.get(slot, {}).values()
        tombstones = (State.EXPIRED, State.DELETED)
        found = [one for one in held if one.state in tombstones and one.changed_at < before_ms]
        found.sort(key=lambda one: (one.changed_at, _facts(one)[0]))
        return [version_of(one) for one in found[:limit]]

    def _settled(self, slot: int, settled_before_ms: int) -> Iterable[tuple[bytes, Record]]:
        for record in self._state.records.get(slot, {}).values():
            if record.stored_at < settled_before_ms:
                yield _facts(record)[0], record

    def _digests(self, slot: int, settled_before_ms: int) -> list[int]:
        digests = [0] * BUCKETS
        for key, record in self._settled(slot, settled_before_ms):
            digests[key[0]] ^= _facts(record)[2]
        return digests

    def slot_digest(self, slot: int, settled_before_ms: int) -> int:
        return slot_digest_of(self.bucket_digests(slot, settled_before_ms))

    def bucket_digests(self, slot: int, settled_before_ms: int) -> bytes:
        return pack_buckets(self._digests(slot, settled_before_ms))

    def versions(
        self,
        slot: int,
        buckets: Sequence[int] | None,
        after: tuple[int, bytes],
        limit: int,
        settled_before_ms: int,
    ) -> list[Version]:
        found = sorted(
            ((key[0], key), record)
            for key, record in self._settled(slot, settled_before_ms)
            if buckets is None or key[0] in buckets
        )
        return [version_of(record) for at, record in found if at > after][:limit]

    def record_count(self, slot: int) -> int:
        return len(self._state.records.get(slot, {}))

    def give_up(self, versions: Sequence[Version]) -> int:
        count = 0
        for version in versions:
            held = self.record(version.key)
            if held is not None and (held.state, _facts(held)[1]) == (version.state, version.digest):
                self._write(lambda state, key=version.key: state.records[key.slot].pop(key))  # type: ignore[misc]
                count += 1
        return count

    def slots_with_records(self) -> dict[int, int]:
        return {slot: len(held) for slot, held in sorted(self._state.records.items()) if held}

    def slots_with_accounts(self) -> dict[int, int]:
        return {slot: count for slot in sorted(self._state.accounts) if (count := self.account_count(slot))}


def _row(record: Record) -> int:
    return weight_of_row(record.owner, record.sender, len(record.prekey), len(record.body))


def _page(records: Iterable[Record], limit: int, max_bytes: int) -> list[Record]:
    page: list[Record] = []
    size = 0
    for record in records:
        if page and (len(page) >= limit or size + weight_of_record(record) > max_bytes):
            break
        page.append(record)
        size += weight_of_record(record)
    return page


class MemoryStore:
    """A disk. It outlives the processes that use it."""

    def __init__(self, rng: random.Random, fsync: tuple[float, float] = (0.0005, 0.003)) -> None:
        self._rng = rng
        self.fsync = fsync
        """Seconds that an fsync takes, from and to; a slow disk takes longer."""
        self._durable = _State()
        self._volatile = _State()
        self._queue: list[tuple[list[Write], asyncio.Future[Any], Any]] = []
        self._syncing: list[tuple[list[Write], asyncio.Future[Any], Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._undone: list[Write] = []
        """A group whose fsync failed, and whose frames still stand in the log."""
        self.full = False
        """Refuse every transaction, as a full disk does."""
        self.failing_syncs = 0
        """So many of the next fsyncs fail; whatever was queued behind one fails with it."""

    async def transact(self, function: Callable[[Tx], T]) -> T:
        """Run a function in order; return its result after the fsync. Raises StoreError."""
        if self.full:
            raise StoreError("the disk is full")
        transaction = _Transaction(self._volatile)
        try:
            result = function(cast(Tx, transaction))
        except BaseException:
            if transaction.redo:
                self._volatile = self._durable.copy()
                for writes, _, _ in (*self._syncing, *self._queue):
                    for write in writes:
                        write(self._volatile)
            raise
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append((transaction.redo, future, result))
        if self._timer is None:
            self._sync()
        return await future

    async def read(self, function: Callable[[Tx], T]) -> T:
        """Run a function that only reads on the newest committed state."""
        transaction = _Transaction(self._durable)
        result = function(cast(Tx, transaction))
        for write in transaction.redo:  # Nothing but damage that was found.
            write(self._volatile)
        return result

    def _sync(self) -> None:
        self._syncing, self._queue = self._queue, []
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._rng.uniform(*self.fsync), self._synced, context=Context())

    def _synced(self) -> None:
        done, self._syncing, self._timer = self._syncing, [], None
        if self.failing_syncs:
            self.failing_syncs -= 1
            self._undone = [write for writes, _, _ in done for write in writes]
            self._fail((*done, *self._queue))
            return
        self._undone = []
        for writes, future, result in done:
            for write in writes:
                write(self._durable)
            if not future.done():
                future.set_result(result)
        if self._queue:
            self._sync()

    def _fail(self, group: Iterable[tuple[list[Write], asyncio.Future[Any], Any]]) -> None:
        self._queue = []
        self._volatile = self._durable.copy()
        for _, future, _ in group:
            if not future.done():
                future.set_exception(StoreError("the disk cannot be written"))

    def forget_register(self, slot: int) -> None:
        """Damage: a slot's register is gone without a trace."""
        for state in (self._durable, self._volatile):
            del state.slots[slot]

    def damage_register(self, slot: int) -> None:
        """Damage: a slot's register fails its checksum from now on, until it is written again."""
        for state in (self._durable, self._volatile):
            state.damaged.add(slot)

    def damage_account(self, slot: int, name: str) -> None:
        """Damage: an account's register fails its checksum from now on, until it is written again."""
        for state in (self._durable, self._volatile):
            state.damaged_accounts.add((slot, name))

    def damage_record(self, key: RecordKey) -> None:
        """Damage: a bit of a record's body flips."""
        for state in (self._durable, self._volatile):
            if key in state.records.get(key.slot, {}):
                state.spoiled.add(key)

    def forget_record(self, key: RecordKey) -> None:
        """Damage: a record that was synced is gone without a trace."""
        for state in (self._durable, self._volatile):
            del state.records[key.slot][key]
            state.spoiled.discard(key)

    def check(self) -> None:
        """Read every body, as `coterie-node check` does: what is damaged is found."""
        for key in sorted(self._durable.spoiled):
            for state in (self._durable, self._volatile):
                _Transaction(state).record(key)

    def crash(self, *, torn: bool | None = None) -> None:
        """Lose what was not synced. An fsync that was on its way may have reached the disk, unless it is `torn`."""
        reached = self._rng.random() < 0.5 if torn is None else not torn
        if self._timer is not None:
            self._timer.cancel()
        arrived = [write for writes, _, _ in self._syncing for write in writes] if self._timer else self._undone
        if reached:
            for write in arrived:
                write(self._durable)
        for _, future, _ in (*self._syncing, *self._queue):
            future.cancel()
        self._timer, self._syncing, self._queue, self._undone = None, [], [], []
        self._volatile = self._durable.copy()
