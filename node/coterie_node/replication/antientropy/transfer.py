"""Pushing records: claim versions, send those that the other node lacks, hear under which configuration it has them.

The one way in which a record leaves a node that has it already: strays that are given up, repair, hand-over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import structlog

from coterie_protocol.errors import CoterieError, ErrorCode, Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record, Version, record_digest, version_of, wins
from coterie_protocol.registers import KnownConfig
from coterie_protocol.replication import Confirmed, Offer
from coterie_protocol.weight import weight_of_record

from ...runtime.ports import Clock, Handlers, Peers, RegisterDamaged, Store, Tx
from ..commits import Arrivals
from ..configuration import SlotTable
from ..settings import ReplicationSettings
from ..sifting import sift
from .pages import READ_MOST, REQUEST_TIMEOUT, Throttle, fill, from_store

log = structlog.get_logger()

REFUSALS = frozenset({ErrorCode.BAD_REQUEST, ErrorCode.TOO_LARGE, ErrorCode.INTERNAL})
"""Answers that may be due to one record of many: the others are offered without it."""


class Taken(NamedTuple):
    """What became of an offer."""

    answers: tuple[KnownConfig | None, ...]
    """The slot's configuration at the other node, in each of its answers."""
    refused: tuple[Version, ...]
    """What it does not take."""

    @property
    def known(self) -> KnownConfig | None:
        """Return the slot's configuration there; None when it knows none or it changed between its answers."""
        first = self.answers[0] if self.answers else None
        if first is None or any(one is None or one.config.identity != first.config.identity for one in self.answers):
            return None
        return first

    def __add__(self, other: Taken) -> Taken:  # type: ignore[override]
        return Taken(self.answers + other.answers, self.refused + other.refused)


class Offers:
    """Offers records to other nodes, and takes their offers."""

    def __init__(
        self,
        table: SlotTable,
        store: Store,
        peers: Peers,
        handlers: Handlers,
        clock: Clock,
        arrivals: Arrivals,
        settings: ReplicationSettings,
    ) -> None:
        self._table = table
        self._store = store
        self._peers = peers
        self._arrivals = arrivals
        self.throttle = Throttle(clock, settings.bulk_bytes_per_second)
        """Everything in bulk that this node sends goes through it."""
        self.closed = ""
        """Why nothing may be offered any more; empty while it may."""
        self.bytes_sent = 0
        """Bytes of records given since the start, for metrics."""
        self.records_given = 0
        """Records given since the start; the other node may have had some of them."""
        self.records_taken = 0
        """Records given by others since the start that were news here."""
        handlers.on_request(Offer, self._take)

    async def offer(self, slot: int, uid: Uid, versions: Sequence[Version]) -> Taken:
        """See to it that a node has these versions (or further ones) on its disk, as far as this node still has them.

        Raises Unavailable, or what the node answered.
        """
        if self.closed:
            raise Unavailable(self.closed)
        try:
            reply = await self._ask(uid, Offer(slot, [], tuple(versions)))
        except CoterieError as error:
            if error.wire_code not in REFUSALS:
                raise
            if len(versions) <= 1:
                return _refused(uid, versions, error)
            half = len(versions) // 2
            return (await self.offer(slot, uid, versions[:half])) + await self.offer(slot, uid, versions[half:])
        lacking = [versions[index] for index in reply.lacking if 0 <= index < len(versions)]
        return Taken((reply.known,), ()) + await self.give(slot, uid, lacking)

    async def give(self, slot: int, uid: Uid, versions: Sequence[Version]) -> Taken:
        """Send records without asking which of them the node lacks. Raises Unavailable, or what the node answered."""
        taken_all = Taken((), ())
        rest = versions
        while rest:
            records, taken = await from_store(self._store.read(lambda tx, rest=rest: fill(tx, rest)))  # type: ignore[misc]
            rest = rest[taken:]
            if not records:
                continue
            size = sum(map(weight_of_record, records))
            await self.throttle.take(size)
            taken_all += await self._give(slot, uid, records)
            self.bytes_sent += size
            self.records_given += len(records)
        return taken_all

    async def _give(self, slot: int, uid: Uid, records: Sequence[Record]) -> Taken:
        """Send a frame of records; one that is refused is sent in halves, down to the record at fault."""
        try:
            return Taken(((await self._ask(uid, Offer(slot, list(records)))).known,), ())
        except CoterieError as error:
            if error.wire_code not in REFUSALS:
                raise
            if len(records) == 1:
                return _refused(uid, [version_of(records[0])], error)
        half = len(records) // 2
        return (await self._give(slot, uid, records[:half])) + await self._give(slot, uid, records[half:])

    async def _ask(self, uid: Uid, offer: Offer) -> Confirmed:
        reply = await self._peers.request(uid, offer, REQUEST_TIMEOUT, bulk=True)
        if not isinstance(reply, Confirmed):
            raise Unavailable(f"{uid} answered an offer with {type(reply).__name__}")
        return reply

    async def _take(self, sender: Uid, offer: Offer) -> Confirmed:
        slot = offer.slot
        if not 0 <= slot < self._table.slots or any(record.slot != slot for record in offer.records):
            raise CoterieError("an offer of another slot's records", code=ErrorCode.BAD_REQUEST)
        known: KnownConfig | None
        lacking: tuple[int, ...] = ()
        if offer.records:
            sound = sift(offer.records, sender)
            changed, known = await from_store(self._store.transact(lambda tx: _merge(tx, slot, sound)))
            self.records_taken += len(changed)
            self._arrivals.publish(changed)
            if len(sound) < len(offer.records):
                refused = len(offer.records) - len(sound)
                raise CoterieError(f"{refused} of the records offered cannot be stored", code=ErrorCode.BAD_REQUEST)
        if offer.claims or not offer.records:
            lacking, known = await from_store(self._store.read(lambda tx: _lacking(tx, slot, offer.claims)))
        return Confirmed(known or self._table.known(slot), lacking)


def _refused(uid: Uid, versions: Sequence[Version], error: CoterieError) -> Taken:
    for one in versions:
        log.warning(
            "a node refuses a record",
            to=uid,
            slot=one.slot,
            owner=one.owner,
            sender=one.sender,
            id=one.id.hex(),
            reason=error.detail,
        )
    return Taken((), tuple(versions))


def _merge(tx: Tx, slot: int, records: Sequence[Record]) -> tuple[list[Record], KnownConfig | None]:
    return tx.merge(records), _own(tx, slot)


def _lacking(tx: Tx, slot: int, claims: Sequence[Version]) -> tuple[tuple[int, ...], KnownConfig | None]:
    """Find claims that are not held. The records are read whole: what fails its checksum is not held."""
    lacking = [index for index, claim in enumerate(claims) if claim.slot != slot]
    for start in range(0, len(claims), READ_MOST):
        part = [(index, claim) for index, claim in enumerate(claims[start : start + READ_MOST], start)]
        part = [one for one in part if one[1].slot == slot]
        for (index, claim), held in zip(part, tx.records([claim.key for _, claim in part]), strict=True):
            if held is None or wins((claim.state, claim.digest), (held.state, record_digest(held))):
                lacking.append(index)
    return tuple(sorted(lacking)), _own(tx, slot)


def _own(tx: Tx, slot: int) -> KnownConfig | None:
    try:
        register = tx.slot_register(slot)
    except RegisterDamaged:
        return None
    if register is None or register.config is None:
        return None
    return KnownConfig(slot, register.accepted, register.config)
