"""Records of slots that this node is no member of: offered to the members until all of them have confirmed.

Rule 14 of the slot protocol. They come here as a stand-in's, as a coordinator's with an old view, and with every
hand-over that leaves this node out. Giving up is per record version: exactly what all K members of one plain
configuration have confirmed goes; what has changed in between stays. A member's confirmation names the configuration in
its own register, read together with the records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record, RecordKey, State, Version
from coterie_protocol.registers import Config, KnownConfig

from ..runtime.ports import FIRST, NO_LIMIT_MS, Clock, Peers, Store, StoreError, Tx
from .antientropy.pages import AT_ONCE, cursor_of
from .antientropy.transfer import Offers, Taken
from .commits import Arrivals
from .configuration import SlotTable
from .settings import ReplicationSettings

log = structlog.get_logger()

TICK = 0.2
"""Seconds between two looks at what is due."""
LOOK_INTERVAL = 10.0
"""Seconds between two looks at what the store holds at all."""
LONGEST_PAUSE = 30.0
"""Seconds: the pause between two attempts doubles up to this."""


@dataclass
class _Stray:
    """A slot with something here that belongs to others."""

    records: int
    due: float
    pause: float
    told: tuple[object, frozenset[Uid]] = (None, frozenset())
    """(configuration's identity, who has confirmed everything under it) of the last attempt."""


class Strays:
    """Hands over what this node holds of others' slots."""

    def __init__(
        self,
        table: SlotTable,
        store: Store,
        peers: Peers,
        refresh: Callable[[int], Awaitable[None]],
        offers: Offers,
        clock: Clock,
        arrivals: Arrivals,
        settings: ReplicationSettings,
    ) -> None:
        """Take `refresh` to ask others for a slot's newest configuration (`Router.refresh`)."""
        self._table = table
        self._store = store
        self._peers = peers
        self._refresh = refresh
        self._offers = offers
        self._clock = clock
        self._settings = settings
        self._me = peers.me
        self._own = {slot for slot in table.slots_known() if table.member_of(slot)}
        self._strays: dict[int, _Stray] = {}
        self._look_at = clock.now()
        self._looked = False
        self._gate = asyncio.Semaphore(AT_ONCE)
        self.only_pending: set[int] = set()
        """Slots that went on while this node was away for too long: what is not pending goes without being offered."""
        self.given_up = 0
        """Records given up since the start, for metrics."""
        table.watch(self._changed)
        peers.watch(self._peer)
        arrivals.watch(self._arrived)

    def remaining(self) -> tuple[int, int]:
        """Return how many slots' records or accounts, and how many records, this node still holds for others.

        As long as the store has not been looked at after a start or a hand-over, one slot more is reported.
        """
        return (
            len(self._strays) + (not self._looked),
            sum(stray.records for stray in self._strays.values()),
        )

    async def run(self) -> None:
        """Offer what is due, round after round, until cancelled."""
        while True:
            await self.round()
            await self._clock.sleep(TICK)

    async def round(self) -> None:
        """Look at the store if it is time for that, and attempt every slot that is due."""
        before = self.given_up
        if not self._looked or self._clock.now() >= self._look_at:
            await self._look()
        now = self._clock.now()
        due = [slot for slot, stray in self._strays.items() if stray.due <= now]
        await asyncio.gather(*(self._attempt(slot) for slot in due))
        if self.given_up > before:
            log.info("records given up to their slots' members", records=self.given_up - before)

    # --- what is a stray ---

    async def _look(self) -> None:
        self._looked = True
        self._look_at = self._clock.now() + LOOK_INTERVAL
        try:
            records, accounts = await self._store.read(lambda tx: (tx.slots_with_records(), tx.slots_with_accounts()))
        except StoreError as error:
            self._looked = False
            log.warning("cannot look for records of others' slots", reason=str(error))
            return
        for slot in sorted((records.keys() | accounts.keys()) - self._own):
            self._note(slot, self._clock.now()).records = records.get(slot, 0)

    def _note(self, slot: int, due: float) -> _Stray:
        stray = self._strays.get(slot)
        if stray is None:
            stray = self._strays[slot] = _Stray(0, due, self._settings.offer_retry)
        return stray

    def _arrived(self, records: Sequence[Record]) -> None:
        foreign = {record.slot for record in records} - self._own
        for slot in sorted(foreign):
            # Not at once: a stand-in holds them because a member is away just now.
            stray = self._note(slot, self._clock.now() + self._settings.offer_retry)
            stray.records += sum(record.slot == slot for record in records)

    def _changed(self, slot: int, known: KnownConfig) -> None:
        if self._me in known.config.members:
            self._own.add(slot)
            self._strays.pop(slot, None)
            return
        if slot in self._own:
            self._own.discard(slot)
            self._looked = False
        self._soon(slot)

    def _peer(self, uid: Uid, alive: bool) -> None:
        if alive:
            for slot in self._strays:
                if uid in self._table.members(slot):
                    self._soon(slot)

    def _soon(self, slot: int) -> None:
        stray = self._strays.get(slot)
        if stray is not None:
            stray.due = self._clock.now()
            stray.pause = self._settings.offer_retry

    # --- handing over ---

    async def _attempt(self, slot: int) -> None:
        async with self._gate:
            stray = self._strays.get(slot)
            if stray is None:
                return
            known = self._table.known(slot)
            stray.due = self._clock.now() + stray.pause
            stray.pause = min(stray.pause * 2, LONGEST_PAUSE)
            try:
                done = known is not None and await self._hand_over(slot, stray, known) and await self._finish(slot)
                if not done and not stray.told[1]:
                    # Nobody was heard: the members known may be long gone.
                    await self._refresh(slot)
            except (CoterieError, StoreError) as error:
                log.info("records not given up yet", slot=slot, reason=str(error))
                return
            except Exception:
                log.exception("records not given up yet", slot=slot)
                return
            if done and self._strays.get(slot) is stray:
                del self._strays[slot]

    async def _hand_over(self, slot: int, stray: _Stray, known: KnownConfig) -> bool:
        """Offer everything to the members; say whether all of it was given up."""
        members = known.config.members
        self._peers.want(members)
        live = [uid for uid in members if self._peers.alive(uid)]
        identity, told = stray.told
        if len(live) < len(members) and identity == known.config.identity and told and told.issuperset(live):
            # Nothing to say until the others come back, but the slot may have moved on without them.
            await self._refresh(slot)
            return False
        confirmed = set(live)
        whole = True
        after, more, page = FIRST, True, self._settings.offer_page
        while more:
            versions = await self._versions(slot, after, page)
            if versions:
                answers, refused = await self._offer(slot, live, self._offered(slot, versions))
                confirmed &= answers.keys()
                if self._moved(known):
                    self._soon(slot)
                    return False
                going = [version for version in versions if version.key not in refused]
                whole = await self._give_up(slot, going, answers) and whole and not refused
                after = cursor_of(versions[-1])
            more = len(versions) == page
        stray.told = (known.config.identity, frozenset(confirmed))
        return whole

    async def _versions(self, slot: int, after: tuple[int, bytes], page: int) -> Sequence[Version]:
        return await self._store.read(lambda tx: tx.versions(slot, None, after, page, NO_LIMIT_MS))

    def _offered(self, slot: int, versions: Sequence[Version]) -> Sequence[Version]:
        """Leave out what must not come back: the members may have forgotten that it was deleted."""
        if slot not in self.only_pending:
            return versions
        return [version for version in versions if version.state == State.PENDING]

    def _moved(self, known: KnownConfig) -> bool:
        newest = self._table.known(known.slot)
        return newest is None or newest.config.identity != known.config.identity

    async def _offer(
        self, slot: int, uids: Sequence[Uid], versions: Sequence[Version]
    ) -> tuple[dict[Uid, KnownConfig], set[RecordKey]]:
        """Offer a page to some nodes.

        Return the configuration of each that has confirmed it, which is learnt, and what one of them does not take.
        """

        async def one(uid: Uid) -> Taken | None:
            try:
                return await self._offers.offer(slot, uid, versions)
            except CoterieError as error:
                log.debug("offer not confirmed", slot=slot, to=uid, reason=error.detail)
                return None

        answers = await asyncio.gather(*(one(uid) for uid in uids))
        taken = {uid: answer for uid, answer in zip(uids, answers, strict=True) if answer is not None}
        confirmed = {uid: known for uid, answer in taken.items() if (known := answer.known) is not None}
        self._table.learn(confirmed.values())
        return confirmed, {version.key for answer in taken.values() for version in answer.refused}

    async def _give_up(self, slot: int, versions: Sequence[Version], answers: dict[Uid, KnownConfig]) -> bool:
        """Delete a page of versions if all K members of one plain configuration have confirmed it under that one.

        It need not be the newest that is known: that may be a proposal which was never chosen and never will be.
        """
        config = self._confirmed(answers)
        if config is None:
            return False

        def delete(tx: Tx) -> int | None:
            register = tx.slot_register(slot)
            if register is not None and register.config is not None:
                held = register.config
                if held.epoch > config.epoch and self._me in held.members:
                    return None  # This node is a member again.
            return tx.give_up(versions)

        gone = await self._store.transact(delete)
        self.given_up += gone or 0
        return gone is not None

    def _confirmed(self, answers: dict[Uid, KnownConfig]) -> Config | None:
        """Return the plain configuration whose members have all answered under it, if there is one.

        A ring that is still forming has configurations of fewer than K: too few to be alone with a record.
        """
        for known in answers.values():
            config = known.config
            if (
                not config.joint
                and len(config.new) >= self._table.replication_factor
                and all(uid in answers and answers[uid].config.identity == config.identity for uid in config.new)
            ):
                return config
        return None

    async def _finish(self, slot: int) -> bool:
        """Say whether nothing of a slot is left; drop its accounts if they may go (rule 13)."""

        def finish(tx: Tx) -> tuple[int, int]:
            records, accounts = tx.record_count(slot), tx.account_count(slot)
            if accounts and not records:
                register = tx.slot_register(slot)
                config = None if register is None else register.config
                if config is not None and not config.joint and self._me not in config.new:
                    tx.drop_accounts(slot)
                    accounts = 0
            return records, accounts

        records, accounts = await self._store.transact(finish)
        stray = self._strays.get(slot)
        if stray is not None:
            stray.records = records
            if not records:
                # Only its own register has to learn that the accounts may go: that comes by itself, and soon.
                stray.pause = self._settings.offer_retry
        return not records and not accounts
