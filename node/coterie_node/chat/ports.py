"""What chat needs of replication: small Protocols, so that tests wire several nodes in one loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record

AppendDone = Callable[[Sequence[Record], int, CoterieError | None], None]
"""(part of the records, copies on disk, error)."""


class Routing(Protocol):
    """Finds and asks acting owners (`replication.routing.Router`)."""

    def acting(self, slot: int) -> Uid | None:
        """Return the acting owner as far as this node knows."""
        ...

    async def locate(self, slot: int, timeout: float) -> Uid:
        """Return the acting owner, asking the ring if need be; raises Unavailable."""
        ...

    async def call(self, slot: int, message: Any, timeout: float) -> Any:
        """Ask the acting owner; raises Unavailable or what it answered. It may be carried out more than once."""
        ...


class AccountRegisters(Protocol):
    """Linearizable account registers (`replication.consensus.registers.Accounts`), to be used at the acting owner."""

    async def read(self, name: str) -> bytes | None:
        """Return the committed value."""
        ...

    async def change(self, name: str, function: Callable[[bytes | None], bytes | None]) -> bytes | None:
        """Change it by a pure function and return the committed value; raises what the function raises."""
        ...


class Appending(Protocol):
    """Quorum append (`replication.append.coordinator.Appender`)."""

    def append(self, records: Sequence[Record], done: AppendDone) -> None:
        """Store records; `done` is called once for each disjoint part of them as it is decided."""
        ...


class Ages(Protocol):
    """What is too old, by agreement (`replication.expiry.slot_clock.Calendar`)."""

    def stamp_ms(self) -> int:
        """Return the time with which to stamp a record: later rather than earlier where clocks differ."""
        ...

    def young_from(self) -> int:
        """Return from which stored_at on nothing is expired, whatever its slot."""
        ...

    def expired_before(self, slot: int) -> int:
        """Return below which stored_at a pending record counts as expired; 0 while that is not known."""
        ...

    def expired(self, record: Record) -> Record:
        """Return the expired version of a pending record."""
        ...


class CatchingUp(Protocol):
    """The start-up sync of a slot (`replication.antientropy.repair.Repair`)."""

    async def caught_up(self, slot: int) -> None:
        """Return once this node has compared the slot with a majority of its members."""
        ...

    def is_complete(self, slot: int) -> bool:
        """Say whether everything that was acknowledged in the slot and can be had is here, stand-ins' included."""
        ...

    def is_certain(self, slot: int, since: float) -> bool:
        """Say whether, on top of that, no other nodes can hold what was acknowledged before a time (Clock.now)."""
        ...
