"""Healing: a register that fails its checksum is written again by a round that this node starts itself (rule 15).

A damaged acceptor abstains, and takes only what is proposed above everything that it ever promised. Nobody else knows
of its trouble, and a slot that is in use little may wait for its next proposal for weeks, bearing one failure less all
the while. So the damaged member proposes: it has what is held accepted again, above its own mark, by the others'
quorum. Its own vote never counts in that, for its acceptor abstains until the accept has reached it.

All configurations are looked at when the node starts; then everything is, slowly and for ever: a row that nobody asks
for must not be found damaged on the day on which the other two are gone. So it is with mailbox records: one that fails
its checksum counts as not held, and `repair` fetches it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from coterie_protocol.errors import CoterieError
from coterie_protocol.registers import KnownConfig

from ...runtime.ports import Clock, Peers, Store, StoreError, Tx
from ..configuration import SlotTable
from ..settings import ReplicationSettings
from .proposer import Proposer
from .registers import Accounts

log = structlog.get_logger()

ROUND = 1.0
"""Seconds between two looks."""
SLOTS_A_ROUND = 64
ACCOUNTS_A_ROUND = 256
"""Slots whose registers are looked at in one round end here or there: some MB a second at most."""
SCRUBBED = 512
"""Mailbox records that are read in one round: a million in half an hour."""

Found = tuple[list[tuple[int, str | None]], int]


class Healing:
    """Finds damaged registers of this node and has them written again."""

    def __init__(
        self,
        table: SlotTable,
        store: Store,
        peers: Peers,
        proposer: Proposer,
        accounts: Accounts,
        refresh: Callable[[int], Awaitable[None]],
        clock: Clock,
        settings: ReplicationSettings,
    ) -> None:
        """`refresh` asks other nodes for what they know of a slot."""
        self._table = table
        self._store = store
        self._peers = peers
        self._proposer = proposer
        self._accounts = accounts
        self._refresh = refresh
        self._clock = clock
        self._settings = settings
        self._to_look: list[tuple[int, int]] = []
        self._scrubbed = 0
        self.healed = 0
        """Registers that were found damaged and are whole again."""

    async def run(self) -> None:
        """Look and heal, round after round, until cancelled."""
        while True:
            try:
                await self.round()
            except (CoterieError, StoreError) as error:
                log.info("healing not completed", reason=str(error))
            except Exception:
                log.exception("healing failed")
            await self._clock.sleep(ROUND)

    async def round(self) -> None:
        """Look at some slots, and have whatever is known to be damaged written again."""
        self._scrubbed = await self._store.read(lambda tx: tx.scrub(self._scrubbed, SCRUBBED))
        places, mark = await self._find(await self._next_slots())
        if not places:
            return
        self._proposer.rise_to(mark)
        self._accounts.rise_to(mark)
        await self._heal_configurations([slot for slot, name in places if name is None])
        by_slot: dict[int, list[str]] = {}
        for slot, name in places:
            if name is not None:
                by_slot.setdefault(slot, []).append(name)
        for slot, names in by_slot.items():
            try:
                await self._heal_accounts(slot, names)
            except (CoterieError, StoreError) as error:
                log.info("accounts not healed yet", slot=slot, reason=str(error))
            except Exception:
                log.exception("accounts not healed yet", slot=slot)
        left, _ = await self._find([])
        healed = len(places) - len(left)
        if healed > 0:
            self.healed += healed
            log.info("damaged registers are whole again", registers=healed, left=len(left))

    async def _find(self, slots: list[int]) -> Found:
        """Return what is damaged, and the mark; keep the table's picture of it up to date."""

        def find(tx: Tx) -> Found:
            return tx.damaged_registers(slots), tx.mark()

        places, mark = await self._store.read(find)
        damaged = {slot for slot, _ in places}
        if news := damaged - self._table.damaged:
            log.error(
                "registers fail their checksum; they are written again from the other members",
                slots=sorted(news)[:16],
                registers=len(places),
            )
        self._table.damaged = damaged
        return places, mark

    async def _next_slots(self) -> list[int]:
        """Return the slots to look at in this round; after the last slot it begins again."""
        if not self._to_look:
            held = await self._store.read(lambda tx: tx.slots_with_accounts())
            self._to_look = [
                (slot, held.get(slot, 0)) for slot in sorted({*held, *self._table.own_slots()}, reverse=True)
            ]
        look: list[int] = []
        accounts = 0
        while self._to_look and len(look) < SLOTS_A_ROUND and accounts < ACCOUNTS_A_ROUND:
            slot, count = self._to_look.pop()
            look.append(slot)
            accounts += count
        return look

    async def _heal_configurations(self, slots: list[int]) -> None:
        for slot in slots:
            if self._table.known(slot) is None:
                await self._refresh(slot)
        known = [slot for slot in slots if self._table.known(slot) is not None]
        batch = self._settings.handover_batch
        for start in range(0, len(known), batch):
            chosen = await self._proposer.confirm(known[start : start + batch])
            # Also where this node is a member no more: then only being told mends its register.
            self._proposer.announce(chosen.values(), dict.fromkeys(chosen, (self._peers.me,)))

    async def _heal_accounts(self, slot: int, names: list[str]) -> None:
        known: KnownConfig | None = self._table.known(slot)
        if known is not None and self._peers.me in known.config.members:
            await self._accounts.write_again(known, names)
