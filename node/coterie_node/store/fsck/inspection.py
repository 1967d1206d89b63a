"""Looks a store over from end to end while no node uses it: every checksum, every promise against the mark.

It changes nothing; `repair` does. What is found is said as findings, each with how bad it is and what to do:

FATAL       the node cannot go on as who it was: what it promised to the ring may be lost (rule 15 of the slot protocol)
REPAIRABLE  `repair.repair` takes it out or computes it anew, and the other members give back what is missing
HEALS       the running node has it written again from the other members; taking it out would break a promise
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from coterie_protocol.registers import SlotRegister
from coterie_protocol.words import counted

from ..connections import connect
from ..damage import verdict
from ..errors import NotAStore, SchemaTooNew, StoreDamaged
from ..migrations import APPLICATION_ID, deltas
from ..registers import decoded_account, decoded_slot, read_mark
from ..rows import CHECKED_COLUMNS, checked

PAGE = 512
"""Rows between two calls of the progress callback."""
_INDEX_ONLY = re.compile(
    r"row \d+ missing from index|wrong # of entries in index|non-unique entry in index|row \d+ values differ from index"
)
_NULL = re.compile(r"NULL value in \w+\.\w+")

Progress = Callable[[str, int, int], None]
"""(what, done, of how many): called now and then."""


class Severity(Enum):
    """How bad a finding is."""

    FATAL = "fatal"
    REPAIRABLE = "repairable"
    HEALS = "heals"


class Finding(NamedTuple):
    """One thing that is not as it should be."""

    severity: Severity
    what: str
    remedy: str
    row: int = 0
    """The number of a damaged record's row."""


NEW_NODE = (
    "the node cannot go on as who it was: --repair moves the database aside and saves the messages that can be read;"
    " it then returns as a new node, and the ring gives it copies"
)
TAKEN_OUT = "--repair takes it out, and the running node fetches it from the other members"
WRITTEN_AGAIN = "start the node: it abstains in this and has it written again from the other members"
REINDEXED = "--repair builds the index anew"
RECOUNTED = "--repair counts anew"
ABSOLVED = "--repair takes the note of that back, and the node goes on as who it was"


@dataclass
class SlotCount:
    """What is held of one slot. `role` is users (owner), backups (replica) or held (no member)."""

    role: str = "held"
    accounts: int = 0
    records: int = 0


@dataclass
class Inspection:
    """What was found."""

    path: Path
    schema: int = 0
    meta: dict[str, bytes] = field(default_factory=dict)
    mark: int | None = None
    """None when it is lost."""
    highest: int = 0
    """The highest ballot counter in any register."""
    registers: int = 0
    slots: dict[int, SlotCount] = field(default_factory=dict)
    put_aside: int = 0
    """Damaged records that the node itself has put aside."""
    findings: list[Finding] = field(default_factory=list)
    condemned: str = ""
    """What the running node found, if it has stopped because of that."""

    @property
    def whole(self) -> bool:
        """Say whether nothing is damaged."""
        return not self.findings

    @property
    def fatal(self) -> bool:
        """Say whether the node cannot go on as who it was."""
        return any(finding.severity is Severity.FATAL for finding in self.findings)

    def add(self, severity: Severity, what: str, remedy: str, row: int = 0) -> None:
        """Note a finding."""
        self.findings.append(Finding(severity, what, remedy, row))


def inspect(path: Path, progress: Progress) -> Inspection:
    """Look a database over. The caller holds the directory's lock.

    Raises NotAStore and SchemaTooNew, and sqlite3.Error only where the file cannot be opened at all for other reasons
    than damage (no permission, no space).
    """
    found = Inspection(path, condemned=verdict(path))
    try:
        connection = connect(path, writable=True, as_it_is=True)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        found.add(Severity.FATAL, f"{path.name} cannot be read as a database ({error})", NEW_NODE)
        return found
    try:
        _inspect(connection, found, progress)
    finally:
        connection.close()
    if found.condemned and found.whole:
        found.add(
            Severity.REPAIRABLE, f"the node stopped ({found.condemned}), but all of the database is whole", ABSOLVED
        )
    elif found.condemned:
        found.add(Severity.FATAL, f"the running node found the database broken ({found.condemned})", NEW_NODE)
    return found


def _inspect(connection: sqlite3.Connection, found: Inspection, progress: Progress) -> None:
    steps: tuple[Callable[[sqlite3.Connection, Inspection, Progress], None], ...] = (
        _schema,
        _integrity,
        _identity,
        _mark,
        _configurations,
        _accounts,
        _records,
        _put_aside,
    )
    for step in steps:
        try:
            step(connection, found, progress)
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:  # Damage can change a value's type, too.
            if not found.fatal:
                found.add(Severity.FATAL, f"the database cannot be read to its end ({error})", NEW_NODE)
    if found.mark is not None and found.highest > found.mark:
        found.add(
            Severity.FATAL, f"the mark of promised ballots is {found.mark}, below the promise {found.highest}", NEW_NODE
        )


def _schema(connection: sqlite3.Connection, found: Inspection, _: Progress) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise NotAStore(found.path)
    found.schema = int(connection.execute("PRAGMA user_version").fetchone()[0])
    known = deltas()[-1][0]
    if found.schema > known:
        raise SchemaTooNew(found.path, found.schema, known)


def _integrity(connection: sqlite3.Connection, found: Inspection, progress: Progress) -> None:
    progress("structure", 0, 1)
    for (complaint,) in connection.execute("PRAGMA integrity_check(1000)"):
        text = str(complaint)
        if text == "ok" or _NULL.fullmatch(text):  # The row of a NULL fails its checksum, and is found by that.
            continue
        if _INDEX_ONLY.match(text):
            found.add(Severity.REPAIRABLE, text, REINDEXED)
        else:
            found.add(Severity.FATAL, f"the database is malformed: {' '.join(text.split())}", NEW_NODE)


def _identity(connection: sqlite3.Connection, found: Inspection, _: Progress) -> None:
    for key, value in connection.execute("SELECT key, value FROM meta"):
        if isinstance(key, str) and isinstance(value, bytes):
            found.meta[key] = value
        else:
            found.add(Severity.FATAL, f"the value {key!r} is no bytes", NEW_NODE)
    if "uid" not in found.meta and connection.execute("SELECT 1 FROM slot_registers LIMIT 1").fetchone():
        found.add(Severity.FATAL, "the node's uid is missing, and it holds slots", NEW_NODE)


def _mark(connection: sqlite3.Connection, found: Inspection, _: Progress) -> None:
    connection.execute("BEGIN")
    try:
        found.mark = read_mark(connection, found.path)
    except StoreDamaged as error:
        found.add(Severity.FATAL, error.reason, NEW_NODE)
    finally:
        connection.execute("ROLLBACK")


def _configurations(connection: sqlite3.Connection, found: Inspection, progress: Progress) -> None:
    me = found.meta.get("uid", b"").decode("utf-8", "replace")
    rows = connection.execute("SELECT slot, register, row_check FROM slot_registers ORDER BY slot")
    for done, (slot, row, check) in enumerate(rows):
        if not done % PAGE:
            progress("configurations", done, 0)
        register = decoded_slot(slot, row, check)
        if register is None:
            found.add(Severity.HEALS, f"the configuration of slot {slot} fails its checksum", WRITTEN_AGAIN)
            continue
        found.registers += 1
        found.highest = max(found.highest, register.promised.counter, register.accepted.counter)
        role = _role(register, me)
        if role:
            found.slots[slot] = SlotCount(role)


def _role(register: SlotRegister, me: str) -> str:
    if register.config is None or me not in register.config.members:
        return ""
    return "users" if register.config.members[0] == me else "backups"


def _accounts(connection: sqlite3.Connection, found: Inspection, progress: Progress) -> None:
    rows = connection.execute("SELECT slot, name, has_value, register, row_check FROM accounts NOT INDEXED")
    miscounted = 0
    for done, (slot, name, has_value, row, check) in enumerate(rows):
        if not done % PAGE:
            progress("accounts", done, 0)
        register = decoded_account(slot, name, row, check)
        if register is None:
            found.add(Severity.HEALS, f"the account {name!r} of slot {slot} fails its checksum", WRITTEN_AGAIN)
            continue
        found.highest = max(found.highest, register.promised.counter, register.accepted.counter)
        if register.value is not None:
            found.slots.setdefault(slot, SlotCount()).accounts += 1
        if has_value != (register.value is not None):
            miscounted += 1
    if miscounted:
        found.add(
            Severity.REPAIRABLE, f"{counted(miscounted, 'account is', 'accounts are')} counted wrongly", RECOUNTED
        )


def _records(connection: sqlite3.Connection, found: Inspection, progress: Progress) -> None:
    total = int(connection.execute("SELECT count(*) FROM records NOT INDEXED").fetchone()[0])
    for done, (seq, row) in enumerate(record_rows(connection)):
        if not done % PAGE:
            progress("records", done, total)
        record = checked(row)
        if record is None:
            found.add(Severity.REPAIRABLE, f"{named(row)} fails its checksum", TAKEN_OUT, seq)
        else:
            found.slots.setdefault(record.slot, SlotCount()).records += 1
    progress("records", total, total)


def record_rows(connection: sqlite3.Connection) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield (row number, CHECKED_COLUMNS) of every record in the order of the file, past every index."""
    cursor = connection.execute(
        f"SELECT seq, {CHECKED_COLUMNS} FROM records NOT INDEXED ORDER BY seq"  # noqa: S608 - no data in it
    )
    for row in cursor:
        yield row[0], row[1:]


def named(row: tuple[Any, ...]) -> str:
    """Name a record for people, as far as its damaged row tells."""
    slot, owner, sender, id_, part = row[:5]
    number = bytes(id_).hex() if isinstance(id_, bytes) else repr(id_)
    return f"record {number}/{part} from {sender!r} to {owner!r} in slot {slot}"


def _put_aside(connection: sqlite3.Connection, found: Inspection, _: Progress) -> None:
    found.put_aside = int(connection.execute("SELECT count(*) FROM damaged_records").fetchone()[0])
