"""The list "Assert after every step" of the slot protocol, as code over what is durable on every disk.

A `Witness` hears of each commit of each store (slot registers, account registers, records) right after its fsync, keeps
a copy of all disks, and checks incrementally what the commit could have broken. It knows nothing of the code under
test but its registers and records. Account values are append-only here: bytes that only ever grow (see `follows`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record, RecordKey, State, record_digest
from coterie_protocol.registers import (
    ACCOUNT_ZERO,
    AccountBallot,
    AccountRegister,
    Ballot,
    Config,
    KnownConfig,
    SlotRegister,
)

TOMBSTONES = (State.EXPIRED, State.DELETED)


class Violation(AssertionError):
    """An invariant of the slot protocol does not hold."""


@dataclass
class SlotHistory:
    """All that was ever durably accepted of one slot's configuration."""

    values: dict[Ballot, Config] = field(default_factory=dict)
    holders: dict[Ballot, set[Uid]] = field(default_factory=dict)
    """Who ever had accepted at this ballot."""
    configs: dict[tuple[int, Ballot], Config] = field(default_factory=dict)
    """By identity."""
    decided: dict[int, KnownConfig] = field(default_factory=dict)
    """By epoch."""

    def newest(self) -> KnownConfig | None:
        """Return the decided configuration of the highest epoch."""
        return self.decided[max(self.decided)] if self.decided else None


@dataclass
class AccountHistory:
    """All that was ever durably accepted of one account."""

    values: dict[AccountBallot, bytes | None] = field(default_factory=dict)
    holders: dict[AccountBallot, dict[tuple[int, Ballot], set[Uid]]] = field(default_factory=dict)
    """By ballot and by the configuration under which it was accepted."""
    committed: dict[AccountBallot, bytes] = field(default_factory=dict)
    truth: bytes = b""
    """The longest value that was committed or acknowledged."""


def quorum(config: Config, granted: set[Uid]) -> bool:
    """Say whether a configuration's quorum has granted, by a rule of our own: the code under test may be wrong."""

    def most(members: tuple[Uid, ...]) -> bool:
        return 2 * len(granted & set(members)) > len(members)

    return most(config.new) and (not config.old or most(config.old))


def short(config: Config) -> str:
    """Write a configuration as the protocol's page does: P3{abc}, J2{a}>{bcd}."""
    new = "{" + ",".join(config.new) + "}"
    if config.joint:
        return f"J{config.epoch}" + "{" + ",".join(config.old) + "}>" + new
    return f"P{config.epoch}{new}"


def keeps(held: Record, promised: Record) -> bool:
    """Say whether a version keeps what was acknowledged: the same, or one of a further state.

    Times are left out: a message that is sent again through another node is the same message.
    """
    return held.state > promised.state or (held.state == promised.state and held.body == promised.body)


def told(key: RecordKey) -> str:
    """Name a record for people."""
    return f"record {key.id.hex()}/{key.part} of {key.owner!r} in slot {key.slot}"


class Witness:
    """Sees every disk. The first violation is kept in `broken` and raised."""

    def __init__(self, replication_factor: int) -> None:
        self.replication_factor = replication_factor
        self.registers: dict[tuple[Uid, int], SlotRegister] = {}
        self.accounts: dict[tuple[Uid, int, str], AccountRegister] = {}
        self.slots: dict[int, SlotHistory] = {}
        self.names: dict[tuple[int, str], AccountHistory] = {}
        self.copies: dict[RecordKey, dict[Uid, Record]] = {}
        self.promised: dict[RecordKey, Record] = {}
        """Acknowledged records, in the version that was acknowledged."""
        self.forgotten: set[RecordKey] = set()
        """Records whose tombstone has been dropped: all members had it, and nothing of before may come back."""
        self.losses: dict[RecordKey, list[Record]] = {}
        """Versions that lost disks held, since what was acknowledged was last on K disks."""
        self.broken: Violation | None = None
        self.checks = 0
        self.story: list[str] = []
        """What was decided, for the message of a failure."""

    def _require(self, holds: bool, complaint: str, *, final: bool = True) -> None:
        self.checks += 1
        if not holds:
            recent = "\n  ".join(self.story[-25:])
            violation = Violation(f"{complaint}\ndecided lately:\n  {recent}")
            if final:
                self.broken = self.broken or violation
            raise violation

    def majority(self) -> int:
        """Return how many nodes are more than half of K."""
        return self.replication_factor // 2 + 1

    # --- slot configurations ---

    def slot_register(self, uid: Uid, slot: int, register: SlotRegister) -> None:
        """Note a durable slot register."""
        held = self.registers.get((uid, slot))
        where = f"slot {slot} at {uid}"
        if held is not None:
            self._require(register.promised >= held.promised, f"{where}: the promise went back from {held.promised}")
            self._require(register.accepted >= held.accepted, f"{where}: accepted went back from {held.accepted}")
            if held.config is not None:
                self._require(
                    register.config is not None and register.config.epoch >= held.config.epoch,
                    f"{where}: went back from {short(held.config)}",
                )
        self._require(register.promised >= register.accepted, f"{where}: accepted above its promise")
        self.registers[uid, slot] = register
        if register.config is not None and (
            held is None or (held.accepted, held.config) != (register.accepted, register.config)
        ):
            self._accepted(uid, slot, register.accepted, register.config)

    def _accepted(self, uid: Uid, slot: int, ballot: Ballot, config: Config) -> None:
        history = self.slots.setdefault(slot, SlotHistory())
        where = f"slot {slot}: {short(config)}@{ballot.counter} at {uid}"
        self._require(history.values.setdefault(ballot, config) == config, f"{where}: another value of the same ballot")
        if config.identity not in history.configs:
            self._first(slot, history, config, where)
            history.configs[config.identity] = config
        self._require(history.configs[config.identity] == config, f"{where}: another value of the same cid")
        holders = history.holders.setdefault(ballot, set())
        holders.add(uid)
        if quorum(config, holders):
            decided = history.decided.get(config.epoch)
            if decided is None:
                history.decided[config.epoch] = KnownConfig(slot, ballot, config)
                self.story.append(f"slot {slot}: {short(config)} at ballot {ballot.counter}, {ballot.proposer}")
            else:
                self._require(
                    decided.config == config, f"{where}: decided, and so is {short(decided.config)} of the same epoch"
                )

    def _first(self, slot: int, history: SlotHistory, config: Config, where: str) -> None:
        if config.epoch == 1:
            self._require(not config.joint and len(config.new) == 1, f"{where}: not a founder's configuration")
            self._require(not history.configs, f"{where}: only the founder creates, and it has")
            return
        before = history.decided.get(config.epoch - 1)
        self._require(before is not None, f"{where}: accepted before anything of epoch {config.epoch - 1} was chosen")
        assert before is not None
        if config.joint:
            self._require(not before.config.joint, f"{where}: joint upon {short(before.config)}")
            self._require(config.old == before.config.new, f"{where}: does not begin at {short(before.config)}")
        else:
            self._require(before.config.joint, f"{where}: plain upon {short(before.config)}")
            self._require(config.new == before.config.new, f"{where}: does not follow {short(before.config)}")
            # The same members in another order have what they had, less the disk that may have been lost since.
            if set(config.new) != set(before.config.old):
                self._carried_over(slot, config, where)

    def _carried_over(self, slot: int, config: Config, where: str) -> None:
        for (of, name), history in self.names.items():
            if of == slot and history.truth:
                have = {
                    uid
                    for uid in config.new
                    if (held := self.accounts.get((uid, slot, name))) is not None
                    and self.follows(history.truth, held.value or b"")
                }
                self._require(
                    2 * len(have) > len(config.new), f"{where}: {name}={history.truth!r} is only on {sorted(have)}"
                )

    # --- accounts ---

    def account(self, uid: Uid, slot: int, name: str, register: AccountRegister) -> None:
        """Note a durable account register."""
        held = self.accounts.get((uid, slot, name))
        where = f"{name} (slot {slot}) at {uid}"
        if held is not None:
            self._require(register.promised >= held.promised, f"{where}: the promise went back")
            self._require(register.accepted >= held.accepted, f"{where}: accepted went back")
        self.accounts[uid, slot, name] = register
        if register.accepted == ACCOUNT_ZERO or (held is not None and held.accepted == register.accepted):
            return
        own = self.registers.get((uid, slot))
        self._require(own is not None and own.config is not None, f"{where}: accepted without a configuration")
        assert own is not None
        assert own.config is not None
        history = self.names.setdefault((slot, name), AccountHistory())
        ballot, value = register.accepted, register.value
        self._require(
            history.values.setdefault(ballot, value) == value, f"{where}: another value of the same ballot {ballot}"
        )
        holders = history.holders.setdefault(ballot, {}).setdefault(own.config.identity, set())
        holders.add(uid)
        if quorum(own.config, holders) and ballot not in history.committed:
            self._committed(where, history, ballot, value or b"")

    def _committed(self, where: str, history: AccountHistory, ballot: AccountBallot, value: bytes) -> None:
        for other, theirs in history.committed.items():
            earlier, later = (theirs, value) if other < ballot else (value, theirs)
            self._require(self.follows(earlier, later), f"{where}: {value!r}@{ballot} and {theirs!r}@{other} fork")
        history.committed[ballot] = value
        self._true(where, history, value)

    def _true(self, where: str, history: AccountHistory, value: bytes) -> None:
        if self.follows(history.truth, value):
            history.truth = value
        else:
            self._require(
                self.follows(value, history.truth), f"{where}: {value!r} does not agree with {history.truth!r}"
            )

    def follows(self, earlier: bytes, later: bytes) -> bool:
        """Say whether a value of an account can have become another, or stayed the same: here it only grows."""
        return later.startswith(earlier)

    def accounts_dropped(self, uid: Uid, slot: int) -> None:
        """Note that a node forgot a slot's accounts: only a plain configuration without it allows that (rule 13)."""
        dropped = [key for key in self.accounts if key[:2] == (uid, slot)]
        if dropped:
            own = self.registers.get((uid, slot))
            config = None if own is None else own.config
            self._require(
                config is not None and not config.joint and uid not in config.new,
                f"slot {slot} at {uid}: accounts dropped at {config and short(config)}",
            )
        for key in dropped:
            del self.accounts[key]

    def longest(self, slot: int, name: str) -> bytes:
        """Return the longest value that was committed or acknowledged."""
        history = self.names.get((slot, name))
        return b"" if history is None else history.truth

    def acknowledged_value(self, slot: int, name: str, value: bytes, before: bytes) -> None:
        """Note that a proposer returned a value; `before` is what was `longest` when the operation began."""
        where = f"{name} (slot {slot}), acknowledged"
        self._require(
            self.follows(before, value), f"{where}: {value!r} does not follow {before!r}, acknowledged before"
        )
        self._true(where, self.names.setdefault((slot, name), AccountHistory()), value)

    # --- records ---

    def record(self, uid: Uid, record: Record) -> None:
        """Note a durable record."""
        held = self.copies.setdefault(record.key, {})
        before = held.get(uid)
        self._require(
            before is None or before.state <= record.state, f"{told(record.key)} at {uid}: its state went back"
        )
        self._require(
            record.key not in self.forgotten or uid in held or record.state != State.ARCHIVED,
            f"{told(record.key)} at {uid}: came back after its tombstone was dropped",
        )
        held[uid] = record
        if record.key in self.losses:
            promised = self.promised.get(record.key)
            if promised and sum(keeps(one, promised) for one in held.values()) >= self.replication_factor:
                del self.losses[record.key]

    def record_gone(self, uid: Uid, key: RecordKey) -> None:
        """Note that a node deleted a record."""
        held = self.copies.get(key, {})
        gone = held.get(uid)
        newest = self.slots[key.slot].newest() if key.slot in self.slots else None
        if gone is not None and gone.state in TOMBSTONES and newest is not None and uid in newest.config.new:
            self._tombstone_gone(uid, key, newest.config, held)
        held.pop(uid, None)
        self._enough_copies(key)

    def _tombstone_gone(self, uid: Uid, key: RecordKey, config: Config, held: dict[Uid, Record]) -> None:
        """Note that a member dropped a tombstone: the first may do so only while all members hold it."""
        if key not in self.forgotten:
            lacking = [one for one in config.new if one not in held or held[one].state not in TOMBSTONES]
            self._require(not lacking, f"{told(key)}: its tombstone was dropped at {uid}, not yet at {lacking}")
            self.forgotten.add(key)
            self.promised.pop(key, None)
        elif (promised := self.promised.get(key)) is not None and promised.state in TOMBSTONES:
            # Written once more, because its writer had not heard that it was stored, and gone once more.
            del self.promised[key]

    def acknowledged_record(self, record: Record) -> None:
        """Note that an append of this version was acknowledged."""
        before = self.promised.get(record.key)
        if before is None or before.state < record.state:
            self.promised[record.key] = record
        self._enough_copies(record.key)

    def _enough_copies(self, key: RecordKey) -> None:
        promised = self.promised.get(key)
        if promised is None:
            return
        have = sorted(uid for uid, held in self.copies.get(key, {}).items() if keeps(held, promised))
        needed = self.majority() - sum(keeps(lost, promised) for lost in self.losses.get(key, ()))
        self._require(len(have) >= needed, f"{told(key)}: only on {have}, {needed} needed")

    # --- disks ---

    def record_damaged(self, uid: Uid, key: RecordKey) -> None:
        """Count a copy as lost: its body is damaged on the disk."""
        lost = self.copies[key].pop(uid)
        self.losses.setdefault(key, []).append(lost)
        self._enough_copies(key)

    def disk_lost(self, uid: Uid) -> None:
        """Forget a disk that is gone for good."""
        for mine in [key for key in self.registers if key[0] == uid]:
            del self.registers[mine]
        for account in [key for key in self.accounts if key[0] == uid]:
            del self.accounts[account]
        for key, held in self.copies.items():
            lost = held.pop(uid, None)
            if lost is not None:
                self.losses.setdefault(key, []).append(lost)
                self._enough_copies(key)

    def compare_disk(
        self,
        uid: Uid,
        registers: dict[int, SlotRegister],
        accounts: dict[tuple[int, str], AccountRegister],
        records: Iterable[Record],
    ) -> None:
        """Take a whole disk, read again at a start: a crash may have come between a commit and its telling.

        Nothing that was durable may have gone, but for what may be given up, or gone back.
        """
        for (of, slot), register in list(self.registers.items()):
            if of == uid:
                self._require(slot in registers, f"slot {slot} at {uid}: {register} was forgotten")
        for slot, register in registers.items():
            self.slot_register(uid, slot, register)
        for slot in {slot for of, slot, name in self.accounts if of == uid and (slot, name) not in accounts}:
            self.accounts_dropped(uid, slot)
        for (slot, name), account in accounts.items():
            self.account(uid, slot, name, account)
        found = {record.key: record for record in records}
        for record in found.values():
            self.record(uid, record)
        for key, held in self.copies.items():
            if uid in held and key not in found:
                self.record_gone(uid, key)

    # --- when all is quiet ---

    def whole(self, slots: int) -> bool:
        """Say whether every slot's newest decided configuration is plain, of K members, and on all their disks."""
        newest = [history.newest() for history in self.slots.values()]
        return len(newest) == slots and all(
            known is not None
            and not known.config.joint
            and len(known.config.new) == self.replication_factor
            and all(
                (own := self.registers.get((uid, known.slot))) is not None and own.config == known.config
                for uid in known.config.new
            )
            for known in newest
        )

    def quiescent(self, slots: int, live: set[Uid], *, strict: bool = True) -> None:
        """Check what must hold once nothing has changed for long: every slot whole, everything where it belongs.

        Raises Violation; unless `strict`, that is only a "not yet".
        """

        def require(holds: bool, complaint: str) -> None:
            self._require(holds, complaint, final=strict)

        for slot in range(slots):
            history = self.slots.get(slot)
            newest = None if history is None else history.newest()
            require(newest is not None, f"slot {slot}: nothing is decided")
            assert newest is not None
            config = newest.config
            require(not config.joint, f"slot {slot}: still {short(config)}")
            require(
                len(set(config.new)) == self.replication_factor and set(config.new) <= live,
                f"slot {slot}: {short(config)}, live are {sorted(live)}",
            )
            for uid in config.new:
                own = self.registers.get((uid, slot))
                held = None if own is None else own.config
                require(held == config, f"slot {slot} at {uid}: {held and short(held)}, not {short(config)}")
            self._carried_over(slot, config, f"slot {slot}, at the end")
        for key, promised in self.promised.items():
            newest = self.slots[key.slot].newest()
            assert newest is not None
            versions = {uid: self.copies.get(key, {}).get(uid) for uid in newest.config.new}
            lacking = [uid for uid, held in versions.items() if held is None or not keeps(held, promised)]
            require(not lacking, f"{told(key)}: not at {lacking} at the end")
            digests = {record_digest(held) for held in versions.values() if held is not None}
            require(len(digests) == 1, f"{told(key)}: its members hold different versions at the end")
