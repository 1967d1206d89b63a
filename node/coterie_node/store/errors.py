"""What can go wrong with a node's durable state. The port (`runtime.ports`) lends StoreError from here.

StoreError                       nothing of the transaction is kept, or the store cannot be used at all
├── StoreClosed                  the node is stopping
├── DirectoryLocked              another process works in the data directory
├── DirectoryUnusable            the data directory cannot be made or written
├── SchemaTooNew                 a newer release wrote this store
├── NotAStore                    the file is something else
├── StoreDamaged                 the database cannot be trusted; carries the remedy
└── RegisterDamaged              one register's checksum fails; carries the ballot below which nothing may be accepted

Unstorable is no StoreError: the store is well, the record is not.
"""

from __future__ import annotations

from pathlib import Path

from coterie_protocol.records import Record
from coterie_protocol.registers import AccountBallot, Ballot


class StoreError(Exception):
    """The store could not do it (disk full, I/O error): nothing of the transaction is kept."""


class StoreClosed(StoreError):
    """The store has been closed: the node is stopping."""

    def __init__(self) -> None:
        super().__init__("the store is closed: the node is stopping")


class StoreBusy(StoreError):
    """So much waits for the disk already that nothing more is taken; nothing was written. It may be tried again."""

    def __init__(self, what: str, waiting: int) -> None:
        super().__init__(f"{waiting} {what} wait for the disk already")


class DirectoryLocked(StoreError):
    """Another process holds the data directory. `pid` is 0 when it did not leave its number."""

    def __init__(self, directory: Path, pid: int) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"the data directory {directory} is in use by {holder}; stop it or choose another --data-dir")
        self.directory = directory
        self.pid = pid


class DirectoryUnusable(StoreError):
    """The data directory cannot be made or written."""

    def __init__(self, directory: Path, reason: str) -> None:
        super().__init__(f"cannot use the data directory {directory}: {reason}; choose another --data-dir or mend it")
        self.directory = directory


class SchemaTooNew(StoreError):
    """A newer release wrote this store; an older one must not touch it."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            f"{path} has schema {found}, but this release knows only up to {known}; install the newer release again"
        )
        self.found = found
        self.known = known


class NotAStore(StoreError):
    """The file is not a node's store."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is not a store of a Coterie node; choose another --data-dir")
        self.path = path


class StoreDamaged(StoreError):
    """The database as a whole cannot be trusted: the node has to come back as a new one."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} is damaged ({reason}); move the data directory away and start again: "
            "the node returns as a new one and the ring brings its data back"
            f" (coterie-node check --repair --data-dir {path.parent} saves what can be read)"
        )
        self.path = path
        self.reason = reason


class RegisterDamaged(StoreError):
    """A register's row fails its checksum (rule 15). What it had promised and accepted is unknown.

    The acceptor must take no part in promises (its missing value would count as "none" in a quorum that needs it) and
    refuse every accept and every learnt value up to `floor`, which is at least as high as anything this node ever
    promised. An accept or a learnt value *above* `floor` may be written: its proposer had a quorum without this node,
    so it saw everything that was chosen below. Writing it heals the row.
    """

    def __init__(self, slot: int, name: str | None, floor: Ballot | AccountBallot) -> None:
        what = f"the configuration of slot {slot}" if name is None else f"an account of slot {slot}"
        super().__init__(f"{what} fails its checksum on this node's disk; it abstains until a proposer writes it again")
        self.slot = slot
        self.name = name
        self.floor = floor


class Unstorable(ValueError):
    """A record has a value that cannot be stored. It is raised before anything is written."""

    def __init__(self, record: Record, fault: str) -> None:
        super().__init__(f"message {record.id!r:.80} of {record.sender!r:.80} to {record.owner!r:.80}: {fault}")
        self.record = record
        self.fault = fault
