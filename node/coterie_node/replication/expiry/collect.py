"""What becomes too old: pending messages expire, tombstones go.

The acting owner does it for its slots, in the background. That a message counts as expired does not wait for it: who
reads leaves out what is too old by `Calendar`.

A tombstone (expired or deleted) may go only where nobody could bring back what it stands for: while the slot's
configuration is plain and *every* member answers, holds exactly this version and takes it for old enough. It is first
agreed upon, then dropped. If some members then drop it and others do not, repair puts it back, and it is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from coterie_protocol.errors import CoterieError, Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import OUTGOING, State, Version, record_digest
from coterie_protocol.registers import Config
from coterie_protocol.replication import DropTombstones, TombstonesAgreed

from ...runtime.ports import Clock, Handlers, Peers, RegisterDamaged, Store, StoreError, Tx
from ..antientropy.pages import PAGE, REQUEST_TIMEOUT, from_store
from ..append.batches import append_all
from ..append.coordinator import Appender
from ..configuration import SlotTable
from ..settings import ReplicationSettings
from .slot_clock import Calendar

log = structlog.get_logger()


class Ageing:
    """Looks for what is too old in the slots that this node acts for, and answers those who do."""

    def __init__(
        self,
        table: SlotTable,
        store: Store,
        peers: Peers,
        handlers: Handlers,
        clock: Clock,
        calendar: Calendar,
        appender: Appender,
        settings: ReplicationSettings,
    ) -> None:
        self._table = table
        self._store = store
        self._peers = peers
        self._clock = clock
        self._calendar = calendar
        self._appender = appender
        self._settings = settings
        self.expired = 0
        """Messages that were written as expired since the start, for metrics."""
        self.forgotten = 0
        """Tombstones that all members have dropped since the start, for metrics."""
        handlers.on_request(DropTombstones, self._asked)

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await self._clock.sleep(self._settings.ageing_interval)
            await self.round()

    async def round(self) -> None:
        """Look at every slot with records that this node acts for."""
        try:
            held = await self._store.read(lambda tx: tx.slots_with_records())
        except StoreError as error:
            log.warning("cannot look for what is too old", reason=str(error))
            return
        expired, forgotten = self.expired, self.forgotten
        for slot in sorted(held.keys() & set(self._table.slots_acted_for())):
            try:
                await self._expire(slot)
                await self._forget(slot)
            except (CoterieError, StoreError) as error:
                log.info("not cleared of what is too old yet", slot=slot, reason=str(error))
            except Exception:
                log.exception("not cleared of what is too old yet", slot=slot)
        if self.expired > expired:
            log.info("messages expired", messages=self.expired - expired)
        if self.forgotten > forgotten:
            log.info("tombstones dropped", records=self.forgotten - forgotten)

    # --- messages ---

    async def _expire(self, slot: int) -> None:
        """Write what counts as expired as such, on a majority. Raises Unavailable."""
        more = True
        while more and (before_ms := self._calendar.expired_before(slot)):
            found = await self._store.read(
                lambda tx, before_ms=before_ms: tx.pending_before(slot, before_ms, PAGE)  # type: ignore[misc]
            )
            if not found:
                return
            await append_all(self._appender.append, [self._calendar.expired(record) for record in found])
            self.expired += sum(record.sender != OUTGOING and not record.part for record in found)
            more = len(found) == PAGE

    # --- tombstones ---

    async def _forget(self, slot: int) -> None:
        """Drop what all members agree upon. Raises Unavailable."""
        more = True
        while more and (before_ms := self._calendar.forgotten_before(slot)):
            known = self._table.known(slot)
            if known is None or not self._settled(known.config):
                return
            versions = await self._store.read(
                lambda tx, before_ms=before_ms: tx.tombstones_before(slot, before_ms, PAGE)  # type: ignore[misc]
            )
            if not versions:
                return
            agreed = await self._everywhere(slot, known.config, versions, now=False)
            dropped = await self._everywhere(slot, known.config, agreed, now=True) if agreed else []
            self.forgotten += len(dropped)
            more = len(versions) == PAGE == len(dropped)

    def _settled(self, config: Config) -> bool:
        """Say whether a configuration is plain, whole, and all of its members are there."""
        return (
            not config.joint
            and len(config.new) >= self._table.replication_factor
            and all(self._table.live(uid) for uid in config.new)
        )

    async def _everywhere(self, slot: int, config: Config, versions: Sequence[Version], *, now: bool) -> list[Version]:
        """Return the versions upon which every member agrees. Raises Unavailable when one does not answer."""
        ask = DropTombstones(slot, config.epoch, config.cid, list(versions), now)
        answers = await asyncio.gather(*(self._ask(uid, ask) for uid in config.new))
        agreed = set(range(len(versions))).intersection(*answers)
        return [versions[index] for index in sorted(agreed)]

    async def _ask(self, uid: Uid, ask: DropTombstones) -> list[int]:
        if uid == self._peers.me:
            return (await self._asked(uid, ask)).agreed
        reply = await self._peers.request(uid, ask, REQUEST_TIMEOUT, bulk=True)
        if not isinstance(reply, TombstonesAgreed):
            raise Unavailable(f"{uid} answered DropTombstones with {type(reply).__name__}")
        return reply.agreed

    async def _asked(self, _: Uid, ask: DropTombstones) -> TombstonesAgreed:
        before_ms = self._calendar.forgotten_before(ask.slot)
        if ask.now:
            return TombstonesAgreed(await from_store(self._store.transact(lambda tx: _drop(tx, ask, before_ms))))
        return TombstonesAgreed(await from_store(self._store.read(lambda tx: _agreed(tx, ask, before_ms))))


def _agreed(tx: Tx, ask: DropTombstones, before_ms: int) -> list[int]:
    """Find the tombstones that are held here in exactly that version, under that configuration, and are too old."""
    try:
        register = tx.slot_register(ask.slot)
    except RegisterDamaged:
        return []
    config = None if register is None else register.config
    if config is None or config.joint or config.identity != (ask.epoch, ask.cid):
        return []
    return [index for index, one in enumerate(ask.versions) if _gone_by(tx, one, before_ms)]


def _gone_by(tx: Tx, version: Version, before_ms: int) -> bool:
    held = tx.record(version.key)
    return (
        held is not None
        and held.state in (State.EXPIRED, State.DELETED)
        and held.changed_at < before_ms
        and (held.state, record_digest(held)) == (version.state, version.digest)
    )


def _drop(tx: Tx, ask: DropTombstones, before_ms: int) -> list[int]:
    agreed = _agreed(tx, ask, before_ms)
    tx.give_up([ask.versions[index] for index in agreed])
    return agreed
