"""A replica's half of append: commit what coordinators send, and say so.

It needs no epoch: members and stand-ins alike hold what they are given. Frames that arrive in one turn of the loop are
one transaction. What a disk is too slow for is refused: the coordinator, who has its majority elsewhere, would never
stop sending, and repair brings it when there is time.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record
from coterie_protocol.registers import KnownConfig
from coterie_protocol.replication import Replicate, Replicated
from coterie_protocol.weight import weight_of_record

from ...runtime.ports import Handlers, Peers, Store, StoreError, Tasks, Unstorable
from ..commits import Arrivals
from ..configuration import SlotTable
from ..own_slots import OwnSlots
from ..settings import ReplicationSettings
from ..sifting import sift

log = structlog.get_logger()


class Holder:
    """Takes Replicate and answers Replicated after the fsync."""

    def __init__(
        self,
        table: SlotTable,
        store: Store,
        peers: Peers,
        handlers: Handlers,
        tasks: Tasks,
        arrivals: Arrivals,
        settings: ReplicationSettings,
    ) -> None:
        self._table = table
        self._store = store
        self._peers = peers
        self._tasks = tasks
        self._arrivals = arrivals
        self._own = OwnSlots(table, peers.me)
        self._taken: list[tuple[Uid, Replicate]] = []
        self._settings = settings
        self._records = 0
        """Records that wait for the disk ..."""
        self._bytes = 0
        """... and their bytes."""
        self._failing = False
        self._full = False
        handlers.on_event(Replicate, self._take)

    def _take(self, sender: Uid, message: Replicate) -> None:
        if self._records >= self._settings.hold_records or self._bytes >= self._settings.hold_bytes:
            if not self._full:
                log.warning("the disk is too slow for what others give to hold", records=self._records)
            self._full = True
            self._answer([(sender, message)], ok=False)
            return
        self._full = False
        self._records += len(message.records)
        self._bytes += sum(map(weight_of_record, message.records))
        if not self._taken:
            # It runs in the loop's next turn, and finds everything that this turn brings.
            self._tasks.start(self._commit(), "hold records")
        self._taken.append((sender, message))

    async def _commit(self) -> None:
        taken, self._taken = self._taken, []
        records = taken[0][1].records if len(taken) == 1 else [each for _, one in taken for each in one.records]
        size = sum(map(weight_of_record, records))
        try:
            changed = await self._store.transact(lambda tx: tx.merge(records))
        except StoreError as error:
            if not self._failing:
                log.warning("cannot hold records for others", reason=str(error))
            self._failing = True
            self._answer(taken, ok=False)
            return
        except Exception as error:
            if not isinstance(error, Unstorable):
                log.exception("records could not be held together; each frame is tried alone")
            await self._commit_apart(taken)
            return
        finally:
            self._records -= len(records)
            self._bytes -= size
        self._failing = False
        self._answer(taken, ok=True)
        self._arrivals.publish(changed)

    async def _commit_apart(self, taken: Sequence[tuple[Uid, Replicate]]) -> None:
        """Commit frames one by one, without the records that cannot be stored: whoever sent such a one hears no yes."""
        for sender, message in taken:
            sound = sift(message.records, sender)
            try:
                changed = await self._store.transact(lambda tx, sound=sound: tx.merge(sound))  # type: ignore[misc]
            except Exception as error:
                log.error("records could not be held", sender=sender, records=len(sound), reason=str(error))
                self._answer([(sender, message)], ok=False)
                continue
            self._answer([(sender, message)], ok=len(sound) == len(message.records))
            self._arrivals.publish(changed)

    def _answer(self, taken: Sequence[tuple[Uid, Replicate]], ok: bool) -> None:
        for sender, message in taken:
            self._peers.send(sender, Replicated(message.batch, ok, self._newer(message.records)))

    def _newer(self, records: Sequence[Record]) -> list[KnownConfig]:
        """Return the configurations of slots of which this node is no member: the coordinator may not know them."""
        foreign = {record.slot for record in records} - self._own.slots
        return [known for slot in sorted(foreign) if (known := self._table.known(slot)) is not None]
