"""Four nodes that are joined without sockets: real views, stores, slot tables and recoveries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from coterie_node.api.ports import Facts
from coterie_node.api.view import View
from coterie_node.replication.configuration import SlotTable
from coterie_node.replication.reconfigure.unsafe_recovery import Recovery
from coterie_node.ring import Hop, Owner
from coterie_node.runtime.dispatch import Dispatcher
from coterie_node.store.store import Store
from coterie_protocol.admin import MessageCounts
from coterie_protocol.errors import Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef
from coterie_protocol.records import Record
from coterie_protocol.registers import Ballot, Config, KnownConfig

SLOTS = 8


class Clock:
    def now(self) -> float:
        return 100.0

    def wall_ms(self) -> int:
        return 1_700_000_000_000

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


class Neighbours:
    """`ports.Peers` over the nodes of one test: a node that is down answers nothing."""

    def __init__(self, town: dict[str, Place], me: str) -> None:
        self._town = town
        self.me = Uid(me)

    def alive(self, uid: Uid) -> bool:
        return self._town[uid].up

    def down_since(self, uid: Uid) -> float | None:
        return None if self.alive(uid) else 0.0

    def learn(self, refs: Iterable[NodeRef]) -> None: ...

    def ref(self, uid: Uid) -> NodeRef | None:
        return self._town[uid].ref

    def want(self, uids: Iterable[Uid]) -> None: ...

    def send(self, uid: Uid, message: Any, *, bulk: bool = False) -> bool:
        return False

    async def request(self, uid: Uid, message: Any, timeout: float, *, bulk: bool = False) -> Any:
        assert uid != self.me, "a node's own uid is never passed to it"
        if not self._town[uid].up:
            raise Unavailable("down")
        return await self._town[uid].dispatcher.request(self.me, message)

    def watch(self, callback: Any) -> None: ...

    async def contact(self, host: str, port: int, timeout: float) -> NodeRef:
        raise Unavailable("nobody")

    async def probe(self, ref: NodeRef, timeout: float) -> bool:
        return self.alive(ref.uid)


class Place:
    """A node: its view, and the rooms that the view looks into (`RingPort`, `RepairPort`, `StraysPort`)."""

    def __init__(self, town: dict[str, Place], number: int, store: Store) -> None:
        self.uid = f"{number:032x}"
        self.up = True
        self.me = NodeRef(Uid(self.uid), f"node-{number}", number * 2, "127.0.0.1", 1, 2, 3, 0)
        self.ref = self.me
        self.next: list[NodeRef] = []
        self.far: list[NodeRef] = []
        self.watchers: list[Callable[[], None]] = []
        self.under: list[int] = []
        self.strays = 0
        self.moved: list[int] = []
        self.synced = True
        self.fault = ""
        self.ring_uid = "ab" * 16
        self.store = store
        self.dispatcher = Dispatcher()
        peers = Neighbours(town, self.uid)
        self.table = SlotTable(peers, SLOTS, 3)
        facts = Facts(
            ring_uid=lambda: self.ring_uid,
            version="0.1.0",
            sessions=lambda: 2,
            messages=lambda: MessageCounts(9, 8, 7),
            synced=lambda: self.synced,
            store_fault=lambda: self.fault,
            waiting_for=lambda: "waiting for a ring to answer at 127.0.0.1:7401",
        )
        recovery = Recovery(f"{self.uid}.boot", self.table, store, peers, self, self.dispatcher, Clock())
        self.view = View(self, self.table, self, self, recovery, peers, store, Clock(), facts)
        self.view.register(self.dispatcher)
        town[self.uid] = self

    async def members(self, slots: Sequence[int]) -> dict[int, tuple[Uid, ...]]:
        return dict.fromkeys(slots, (Uid(self.uid),))

    def standins(self, members: Iterable[Uid]) -> list[Uid]:
        return []

    def successors(self) -> Sequence[NodeRef]:
        return self.next

    def fingers(self) -> Sequence[NodeRef]:
        return self.far

    def watch(self, callback: Callable[[], None]) -> None:
        self.watchers.append(callback)

    async def trace(self, slot: int) -> tuple[Owner | None, list[Hop]]:
        asked = self.next[0]
        return Owner(self.next[1], asked, (self.me,), 1), [Hop(asked, 100.0, 100.25, True)]

    def predecessor(self) -> NodeRef | None:
        return None

    def remaining(self) -> tuple[int, int]:
        return self.strays, 3 * self.strays

    def leave(self) -> None:
        self.me = NodeRef(**{**_fields(self.me), "leaving": True})

    def cancel_leave(self) -> None:
        self.me = NodeRef(**{**_fields(self.me), "leaving": False})

    async def move(self, position: int) -> None:
        self.moved.append(position)

    def under_replicated(self) -> list[int]:
        return self.under


def _fields(ref: NodeRef) -> dict[str, Any]:
    return {name: getattr(ref, name) for name in ref.__struct_fields__}


def plain(slot: int, *members: str) -> KnownConfig:
    uids = tuple(Uid(uid) for uid in members)
    return KnownConfig(slot, Ballot(1, "x"), Config(3, Ballot(1, "x"), (), uids))


def mail(slot: int) -> Record:
    return Record(slot, "bob", "alice", bytes(16), 0, 0, b"body", 4, b"", 1, 1, 1)
