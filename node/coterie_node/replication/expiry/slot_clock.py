"""What time it is, as far as anything is thrown away because of it: the time that a majority agrees upon.

Messages expire and tombstones go by the clocks of nodes, and a clock may be wrong by years. So no node believes its
own:

- A slot's time is the latest that a majority of its members' clocks have reached. One of three clocks may then say
  what it likes. Without a majority heard there is no time, and nothing is too old.
- A clock that is told to have leapt ahead is believed only when it has stayed there for a thirtieth of the message's
  life (a day, by default); until then it counts as having gone on evenly. So clocks that leap all together, set
  by a broken time server, leave that long to notice.
- Whoever stamps a record takes the later of its own clock and the others', so that a clock which lags makes
  no message that is old from the beginning.

Why this is enough is in docs/decisions/0017-old-by-agreement.md.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record, State
from coterie_protocol.replication import ClockTold

from ...runtime.ports import Clock, Handlers, Peers
from ..configuration import SlotTable
from ..settings import ReplicationSettings

log = structlog.get_logger()

_LEAP_PART = 100
"""A clock may go ahead by this part of a message's life between two readings (7 h) and is believed."""
_TRUST_PART = 30
"""A clock that has leapt further is believed after this part of a message's life (a day)."""


class _Told:
    """One node's clock, as its readings tell it."""

    __slots__ = ("_doubted", "begun_ms")

    def __init__(self, wall_ms: int, at: float) -> None:
        self.begun_ms = wall_ms - int(at * 1000)
        """What it said when this node's monotonic clock was at 0, if it goes on evenly."""
        self._doubted: float | None = None
        """Since when it is too far ahead to be believed."""

    def read(self, wall_ms: int, at: float, message_ttl: float) -> bool:
        """Take a reading; say whether it is the first of a leap."""
        begun_ms = wall_ms - int(at * 1000)
        ahead = (begun_ms - self.begun_ms) / 1000
        if ahead <= message_ttl / _LEAP_PART:
            self._doubted = None
        elif self._doubted is None:
            self._doubted = at
            return True
        elif at - self._doubted < message_ttl / _TRUST_PART:
            return False
        self._doubted = None
        self.begun_ms = begun_ms
        return False


class Calendar:
    """The time of slots, and what is too old by it."""

    def __init__(
        self, table: SlotTable, peers: Peers, handlers: Handlers, clock: Clock, settings: ReplicationSettings
    ) -> None:
        self._table = table
        self._peers = peers
        self._clock = clock
        self._settings = settings
        self._me = peers.me
        self._told: dict[Uid, _Told] = {self._me: _Told(clock.wall_ms(), clock.now())}
        self._begun: dict[tuple[Uid, ...], int | None] = {}
        """By members: what an agreed clock said when this node's monotonic one was at 0. Valid until the next news."""
        self._latest: int | None = None
        """The latest of these; None when it is to be looked for again."""
        self._message_ms = int(settings.message_ttl * 1000)
        self._tombstone_ms = int(settings.tombstone_ttl * 1000)
        handlers.on_event(ClockTold, self._take)
        peers.watch(self._peer)

    async def run(self) -> None:
        """Tell the others the time, until cancelled."""
        while True:
            self._read(self._me, self._clock.wall_ms())
            for uid in self._fellows():
                self._peers.send(uid, ClockTold(self._clock.wall_ms()))
            await self._clock.sleep(self._settings.clock_interval)

    # --- the time ---

    def time_ms(self, slot: int) -> int | None:
        """Return the time that a majority of a slot's members have reached; None when too few are heard."""
        return self.agreed_ms(self._table.members(slot))

    def agreed_ms(self, members: Iterable[Uid]) -> int | None:
        """Return the time that a majority of these nodes have reached; None when too few are heard."""
        begun_ms = self._begun_ms(tuple(members))
        return None if begun_ms is None else begun_ms + int(self._clock.now() * 1000)

    def _begun_ms(self, nodes: tuple[Uid, ...]) -> int | None:
        if nodes not in self._begun:
            heard = sorted(
                (self._told[uid].begun_ms for uid in nodes if uid in self._told and self._table.live(uid)), reverse=True
            )
            needed = len(nodes) // 2 + 1
            self._begun[nodes] = heard[needed - 1] if nodes and len(heard) >= needed else None
        return self._begun[nodes]

    def stamp_ms(self) -> int:
        """Return the time with which to stamp a record: later than any slot's time, rather than earlier than its own.

        The path of every message asks: so it is not the time of one slot but the latest of all that this node shares.
        """
        if self._latest is None:
            shared = {members for slot in self._table.own_slots() if (members := self._table.members(slot))}
            self._latest = max(
                (begun_ms for members in shared if (begun_ms := self._begun_ms(members)) is not None), default=0
            )
        return max(self._clock.wall_ms(), self._latest + int(self._clock.now() * 1000))

    # --- what is too old ---

    def expired_before(self, slot: int) -> int:
        """Return below which stored_at a pending record counts as expired; 0 while that is not known."""
        time_ms = self.time_ms(slot)
        return 0 if time_ms is None else max(0, time_ms - self._message_ms)

    def forgotten_before(self, slot: int) -> int:
        """Return below which changed_at a tombstone may go; 0 while that is not known."""
        time_ms = self.time_ms(slot)
        return 0 if time_ms is None else max(0, time_ms - self._tombstone_ms)

    def young_from(self) -> int:
        """Return from which stored_at on nothing is expired, whatever its slot: cheaper than asking for each."""
        return self.stamp_ms() - self._message_ms

    def expired(self, record: Record) -> Record:
        """Return the expired version of a pending record: the same one, whoever makes it and when."""
        return Record(
            *record.key,
            State.EXPIRED,
            b"",
            record.size,
            record.prekey,
            record.epoch,
            record.stored_at,
            record.stored_at + self._message_ms,
        )

    # --- clocks ---

    def _take(self, sender: Uid, message: ClockTold) -> None:
        self._read(sender, message.wall_ms)

    def _read(self, uid: Uid, wall_ms: int) -> None:
        self._forget()
        at = self._clock.now()
        told = self._told.get(uid)
        if told is None:
            self._told[uid] = _Told(wall_ms, at)
        elif told.read(wall_ms, at, self._settings.message_ttl):
            ahead = (wall_ms - told.begun_ms) / 1000 - at
            log.error("a clock has leapt ahead; nothing expires by it yet", node=uid, seconds=round(ahead))

    def _forget(self) -> None:
        """Reckon anew from here on: there is news of a clock."""
        self._begun.clear()
        self._latest = None

    def _peer(self, uid: Uid, alive: bool) -> None:
        self._forget()
        if alive:
            self._peers.send(uid, ClockTold(self._clock.wall_ms()))

    def _fellows(self) -> list[Uid]:
        found = {uid for slot in self._table.own_slots() for uid in self._table.members(slot)}
        return sorted(found - {self._me})
