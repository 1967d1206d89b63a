"""What replication and chat need from the outside: Protocols that store, peer, driver and the simulation implement.

*Persist before you send*: a handler that acknowledges takes the result of `Store.transact`, whose awaitable finishes
only after the fsync of the transaction that ran the function.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef
from coterie_protocol.records import Record, RecordKey, Version
from coterie_protocol.registers import AccountRegister, SlotRegister

from ..store.errors import RegisterDamaged, StoreError, Unstorable

__all__ = [
    "FIRST",
    "NO_LIMIT_MS",
    "Clock",
    "EventHandler",
    "Handlers",
    "Peers",
    "RegisterDamaged",
    "RequestHandler",
    "Store",
    "StoreError",
    "Suggestions",
    "Tasks",
    "Tx",
    "Unstorable",
]

T = TypeVar("T")


class Clock(Protocol):
    """Time as the node sees it."""

    def now(self) -> float:
        """Return monotonic seconds."""
        ...

    def wall_ms(self) -> int:
        """Return Unix milliseconds; it may jump."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Tx(Protocol):
    """A transaction, in order with all others of this node. Functions given to `transact` see and change it.

    A function must do nothing but read and write through it (it runs in the writer's thread), and may run again from
    its beginning if the transaction that it shared with others could not be committed.
    """

    # --- meta: small named values (uid, ring uid, position, remembered peers) ---
    def meta(self, key: str) -> bytes | None:
        """Return a named value."""
        ...

    def put_meta(self, key: str, value: bytes | None) -> None:
        """Set a named value, or remove it (None)."""
        ...

    # --- slot configurations ---
    def slot_register(self, slot: int) -> SlotRegister | None:
        """Return the acceptor state of a slot; None when the node never heard of it. Raises RegisterDamaged."""
        ...

    def slot_registers(self) -> Iterable[tuple[int, SlotRegister]]:
        """Return all of them, by slot; damaged ones are left out."""
        ...

    def put_slot_register(self, slot: int, register: SlotRegister) -> None:
        """Write one. The node-wide high-water mark of promised ballots is raised with it (rule 15)."""
        ...

    def mark(self) -> int:
        """Return a ballot counter at least as high as every one ever promised by this node (rule 15)."""
        ...

    def damaged_registers(self, slots: Iterable[int] = ()) -> list[tuple[int, str | None]]:
        """Return (slot, name, or None for the slot's own) of registers that were found damaged and still are.

        Looks at the registers and accounts of `slots` first.
        """
        ...

    # --- accounts ---
    def account(self, slot: int, name: str) -> AccountRegister | None:
        """Return the acceptor state of an account. Raises RegisterDamaged."""
        ...

    def put_account(self, slot: int, name: str, register: AccountRegister) -> None:
        """Write one. The node-wide high-water mark of promised ballots is raised with it (rule 15)."""
        ...

    def accounts(self, slot: int, after: str, limit: int) -> list[tuple[str, AccountRegister]]:
        """Return up to `limit` accounts of a slot with names greater than `after`, in order.

        Raises RegisterDamaged: a list with a hole in it would pass for complete (rule 12).
        """
        ...

    def account_names(self, slot: int, after: str, limit: int) -> list[str]:
        """Return up to `limit` names of a slot greater than `after`, in order, damaged registers' ones too."""
        ...

    def account_count(self, slot: int) -> int:
        """Return how many accounts with an accepted value a slot holds here."""
        ...

    def drop_accounts(self, slot: int) -> int:
        """Forget a slot's account values (rule 13); return how many."""
        ...

    # --- mailbox records ---
    def scrub(self, after: int, limit: int) -> int:
        """Read some records after a cursor, so that damage is found which nobody asks for; return the next cursor.

        0 is the beginning, and what is returned at the end. A damaged record counts as not held from then on.
        """
        ...

    def insert(self, record: Record) -> Record | None:
        """Write a record unless its key is held: then change nothing and return the held one."""
        ...

    def insert_many(self, records: Sequence[Record]) -> list[Record | None]:
        """Insert each in order and return for each what `insert` would; many times faster than one by one.

        Raises Unstorable before anything is written.
        """
        ...

    def merge(self, records: Sequence[Record]) -> list[Record]:
        """Merge versions (the greater (state, digest) wins) and return those that changed what is held.

        Raises Unstorable before anything is written.
        """
        ...

    def record(self, key: RecordKey) -> Record | None:
        """Return the held version of a record."""
        ...

    def records(self, keys: Sequence[RecordKey]) -> list[Record | None]:
        """Return for each key what `record` would; many times faster than one by one."""
        ...

    def pending(self, slot: int, owner: str, after: tuple[int, bytes], limit: int, max_bytes: int) -> list[Record]:
        """Return an owner's pending records in the order of (stored_at, key hash), after that cursor.

        At most `limit` records and about `max_bytes` by weight (`weight_of_record`), but always at least one if any.
        """
        ...

    def archive_page(
        self, slot: int, owner: str, before: tuple[int, bytes] | None, limit: int, max_bytes: int
    ) -> list[Record]:
        """Return an owner's archived records (part 0), newest first by (stored_at, key hash), before that cursor."""
        ...

    def mailbox_size(self, slot: int, owner: str, since_ms: int = 0) -> tuple[int, int]:
        """Return (number, weight of the rows) of an owner's pending records with stored_at of at least `since_ms`."""
        ...

    def archive_size(self, slot: int, owner: str) -> tuple[int, int]:
        """Return (number, weight of the rows) of an owner's archived records, attachments included."""
        ...

    def deleted_size(self, slot: int, owner: str) -> tuple[int, int]:
        """Return (number, weight of the rows) of an owner's deleted records, which are remembered for a while."""
        ...

    def pending_before(self, slot: int, before_ms: int, limit: int) -> list[Record]:
        """Return pending records with stored_at below a time, of all owners; a bounded number of bytes."""
        ...

    def tombstones_before(self, slot: int, before_ms: int, limit: int) -> list[Version]:
        """Return expired and deleted records with changed_at below a time, the oldest first."""
        ...

    def slot_digest(self, slot: int, settled_before_ms: int) -> int:
        """Return the 64-bit digest of a slot's records with stored_at below the limit; 0 for none."""
        ...

    def bucket_digests(self, slot: int, settled_before_ms: int) -> bytes:
        """Return 256 little-endian 64-bit digests by bucket (records.key_hash(key)[0])."""
        ...

    def versions(
        self,
        slot: int,
        buckets: Sequence[int] | None,
        after: tuple[int, bytes],
        limit: int,
        settled_before_ms: int,
    ) -> list[Version]:
        """Return versions of a slot (of some buckets) in the order of (bucket, key hash), after that cursor."""
        ...

    def record_count(self, slot: int) -> int:
        """Return how many records of any state a slot holds here."""
        ...

    def give_up(self, versions: Sequence[Version]) -> int:
        """Delete exactly these versions (a record that has changed since stays); return how many went."""
        ...

    def slots_with_records(self) -> dict[int, int]:
        """Return the number of records by slot, empty slots left out."""
        ...

    def slots_with_accounts(self) -> dict[int, int]:
        """Return the number of accounts with a value by slot, empty slots left out."""
        ...


NO_LIMIT_MS = 1 << 62
"""`settled_before_ms` that counts every record."""
FIRST = (-1, b"")
"""The cursor before everything."""


class Store(Protocol):
    """A node's durable state."""

    async def transact(self, function: Callable[[Tx], T]) -> T:
        """Run a function in the writer's order; return its result after the fsync. Raises StoreError.

        What the function raises is raised here, and none of its writes is kept.
        """
        ...

    async def read(self, function: Callable[[Tx], T]) -> T:
        """Run a function that only reads on the newest committed state, out of the writer's way."""
        ...


class Peers(Protocol):
    """Links to the other nodes. A node's own uid is never passed to it."""

    @property
    def me(self) -> Uid:
        """Return this node's uid."""
        ...

    def alive(self, uid: Uid) -> bool:
        """Say whether a link stands and was heard of lately. A node that was never tried counts as not alive."""
        ...

    def down_since(self, uid: Uid) -> float | None:
        """Return since when (Clock.now) a node is not alive; None while it is. Never heard of: since the start."""
        ...

    def learn(self, refs: Iterable[NodeRef]) -> None:
        """Remember where nodes are; the greater incarnation wins."""
        ...

    def ref(self, uid: Uid) -> NodeRef | None:
        """Return what is known of where a node is."""
        ...

    def want(self, uids: Iterable[Uid]) -> None:
        """Try to have and keep a link to each of these (in the background)."""
        ...

    def send(self, uid: Uid, message: Any, *, bulk: bool = False) -> bool:
        """Queue an event, in order for each peer; False when there is no link. It may still be lost.

        `bulk` messages go behind the others.
        """
        ...

    async def request(self, uid: Uid, message: Any, timeout: float, *, bulk: bool = False) -> Any:
        """Ask, and return the answer. Opens a link when there is none.

        Raises Unavailable when there is no link or no answer in time (it may still have been done), and the
        CoterieError that the peer answered.
        """
        ...

    def watch(self, callback: Callable[[Uid, bool], None]) -> None:
        """Call back with (uid, alive) at each change."""
        ...

    async def contact(self, host: str, port: int, timeout: float) -> NodeRef:
        """Open a link to an address and return who answered there (its reference is learnt).

        Raises Unavailable, or CoterieError WRONG_RING / WRONG_SETTINGS when it refuses us or we it.
        """
        ...

    async def probe(self, ref: NodeRef, timeout: float) -> bool:
        """Confirm over a fresh connection whether a node lives (and is still this uid)."""
        ...


RequestHandler = Callable[[Uid, Any], Awaitable[Any]]
EventHandler = Callable[[Uid, Any], None]


class Handlers(Protocol):
    """Where a room says which messages of peers it takes."""

    def on_request(self, kind: type, handler: RequestHandler) -> None:
        """Answer requests of this kind with `await handler(sender, message)`; a CoterieError is sent as such."""
        ...

    def on_event(self, kind: type, handler: EventHandler) -> None:
        """Take events of this kind. Handlers do not await; they start what they need through `Tasks`."""
        ...


class Tasks(Protocol):
    """Background work: a failure is logged, everything is cancelled when the node stops."""

    def start(self, work: Awaitable[Any], name: str) -> None:
        """Run it."""
        ...

    def keep(self, work: Callable[[], Awaitable[Any]], name: str) -> None:
        """Run work that has no end: should it fail, it begins anew after a pause."""
        ...


class Suggestions(Protocol):
    """What the ring suggests. It may be wrong: the slot decides."""

    async def members(self, slots: Sequence[int]) -> dict[int, tuple[Uid, ...]]:
        """Return for each slot the K nodes that should hold it, the owner first; slots it cannot tell are missing.

        Fewer than K when the ring has fewer. The nodes' addresses have been learnt by Peers.
        """
        ...

    def standins(self, members: Iterable[Uid]) -> list[Uid]:
        """Return the next live successors of this node that are not among `members`, nearest first."""
        ...
