"""One running node: the rooms, put together in the order in which they can work.

Store and identity come first, then the admin port (so that health answers from the beginning), then the links. A node
without a ring waits here for one; only with the ring's uid, K and S known are the rooms built that depend on them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import structlog
from aiohttp import web

from coterie_protocol.errors import CoterieError
from coterie_protocol.frames import PEER_VERSION_HIGH, PEER_VERSION_LOW
from coterie_protocol.identifiers import DEFAULT_SLOTS, Uid, uid_of
from coterie_protocol.nodes import NodeRef, PeerHello

from . import identity as identities
from .admin_view import LateView
from .api.admin import admin_app
from .api.rooms import Facts
from .api.view import View
from .discovery.static import StaticDiscovery
from .edge import Edge
from .identity import Beginning, Identity, Meeting, Membership
from .listening import Port
from .peer.links import Links
from .peer.settings import peer_settings
from .replica import Replica
from .replication.dispatch import Dispatcher, TaskGroup
from .replication.settings import ReplicationSettings
from .store.store import Store
from .version import VERSION

if TYPE_CHECKING:
    from .config import Address, NodeConfig
    from .replication.ports import Tx

log = structlog.get_logger()

DEFAULT_REPLICATION_FACTOR = 3
GREET_TIMEOUT = 1.0
SEARCH_PAUSE = 0.2
DRAIN_SECONDS = 8.0
"""How long a stopping node lets commits and clients finish; SIGTERM promises 10 s in all."""


class SystemClock:
    """Time as the machine tells it (`replication.ports.Clock`)."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Return Unix milliseconds."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class Node:
    """Starts and stops everything. `gave_up` says that the node gave its empty ring up and should start anew."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._clock = SystemClock()
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311  (jitter, not secrets)
        self._boot = secrets.token_hex(16)
        self._dispatcher = Dispatcher()
        self._tasks = TaskGroup()
        self._discovery = StaticDiscovery(config.seed)
        self._waiting = "starting"
        self._foreign: dict[str, float] = {}
        self._stack = contextlib.AsyncExitStack()
        self._edge: Edge | None = None
        self._replica: Replica | None = None
        self._membership: Membership | None = None
        self._me: NodeRef
        self._remembered: list[NodeRef] = []
        self._links: Links
        self._store: Store
        self.stopped = asyncio.Event()
        """Set when the node itself wants to stop."""
        self.gave_up = False

    async def start(self) -> None:
        """Start the node; returns when it takes clients. Raises StoreError, ListenError, WrongRing."""
        config = self._config
        self._store = await Store.open(config.data_dir)
        self._stack.push_async_callback(self._store.close)
        await self._identify()
        view = LateView(self._ref, VERSION, lambda: self._waiting)
        token = config.admin_token_file.read_text().strip() if config.admin_token_file else None
        await self._listen(admin_app(view, token), config.listen_admin, "admin")
        self._links = Links(self._hello, self._dispatcher, self._clock, self._tasks, peer_settings(config))
        self._stack.push_async_callback(self._tasks.close)
        self._stack.push_async_callback(self._links.close)
        self._links.learn(self._remembered)
        self._links.watch_foreign(self._met_foreign)
        port = await self._links.start(config.listen_peer.host, config.listen_peer.port)
        self._me = msgspec.structs.replace(self._me, peer_port=port)
        if self._membership is None:
            await self._find_ring()
        self._links.book.watch(self._remember)
        await self._take_part(view)

    async def stop(self) -> None:
        """Tell clients to go elsewhere, finish what is being committed, and close everything."""
        if self._edge is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._edge.drain()
        if self._replica is not None:
            self._replica.driver.close()
        await self._stack.aclose()

    # --- Who this node is, and its ring ---

    async def _identify(self) -> None:
        config = self._config

        def load(tx: Tx) -> tuple[Identity, list[NodeRef], int]:
            found = identities.load(tx, lambda: uid_of(secrets.token_bytes(16)))
            incarnation = identities.next_incarnation(tx, self._clock.wall_ms())
            return found, identities.remembered(tx), incarnation

        identity, self._remembered, incarnation = await self._store.transact(load)
        beginning = identities.begin(
            identity,
            found=config.found,
            expected=config.ring_uid,
            replication_factor=config.replication_factor,
            slots=config.slots,
        )
        self._membership = identity.membership
        if beginning is Beginning.FOUND:
            await self._belong(
                Membership(
                    config.ring_uid or uid_of(secrets.token_bytes(16)),
                    config.replication_factor or DEFAULT_REPLICATION_FACTOR,
                    config.slots or DEFAULT_SLOTS,
                    founded=True,
                )
            )
        host = config.advertise or config.listen_peer.host
        self._me = NodeRef(
            identity.uid,
            config.name,
            identity.position,
            "" if host in ("0.0.0.0", "::") else host,  # noqa: S104  (then the peer's view of us counts)
            config.listen_peer.port,
            config.listen_client.port,
            config.listen_admin.port,
            incarnation,
        )

    async def _belong(self, membership: Membership) -> None:
        await self._store.transact(lambda tx: identities.put_membership(tx, membership))
        self._membership = membership
        log.info(
            "belongs to a ring",
            ring_uid=membership.ring_uid,
            founded=membership.founded,
            replication_factor=membership.replication_factor,
            slots=membership.slots,
        )

    async def _find_ring(self) -> None:
        """Wait until a ring answers. Raises WrongRing when it is not the one that was asked for."""
        config = self._config
        while self._membership is None:
            self._waiting = f"waiting for a ring to answer at {self._discovery.describe()}"
            log.info("looking for a ring", where=self._discovery.describe())
            for at in await self._discovery.addresses():
                try:
                    hello = await self._links.greet(at.host, at.port, GREET_TIMEOUT)
                except CoterieError as error:
                    log.debug("nobody there", address=str(at), reason=error.detail)
                    continue
                found = identities.join(
                    hello,
                    expected=config.ring_uid,
                    replication_factor=config.replication_factor,
                    slots=config.slots,
                )
                if found is not None:
                    await self._belong(found)
                    self._links.ring_changed()
                    return
            await self._clock.sleep(SEARCH_PAUSE * self._rng.uniform(0.8, 1.2))

    async def _take_part(self, view: LateView) -> None:
        config, membership = self._config, self._membership
        assert membership is not None
        settings = ReplicationSettings(
            replace_after=config.replace_after,
            handover_round=config.handover_round,
            repair_interval=config.repair_interval,
        )
        self._waiting = "joining the circle"
        self._replica = replica = Replica(
            self._me,
            membership,
            config.preset,
            settings,
            self._boot,
            self._store,
            self._links,
            self._dispatcher,
            self._tasks,
            self._clock,
            self._rng,
            self._persist_position,
            self._candidates,
            self._remember,
        )
        self._edge = edge = Edge(
            config,
            membership,
            self._me,
            replica,
            self._store,
            self._links,
            self._dispatcher,
            self._clock,
            self._tasks,
            lambda: view.readiness().state,
        )
        self._stack.callback(edge.close)
        facts = Facts(
            ring_uid=lambda: membership.ring_uid,
            version=VERSION,
            sessions=edge.sessions,
            synced=lambda: replica.synced,
            store_fault=lambda: str(self._store.failure or ""),
            waiting_for=lambda: self._waiting,
        )
        full = View(
            replica.driver, replica.table, replica.repair, replica.strays, self._links, self._store, self._clock, facts
        )
        full.register(self._dispatcher)
        view.become(full)
        await replica.start()
        edge.begin()
        await self._listen(edge.app, config.listen_client, "client")
        await replica.sync()
        log.info("ready", name=self._me.name, position=replica.driver.me.position)

    # --- What the rooms ask ---

    def _ref(self) -> NodeRef:
        return self._replica.driver.me if self._replica is not None else self._me

    def _hello(self) -> PeerHello:
        ring = self._membership
        return PeerHello(
            PEER_VERSION_LOW,
            PEER_VERSION_HIGH,
            ring.ring_uid if ring else "",
            ring.replication_factor if ring else 0,
            ring.slots if ring else 0,
            self._ref(),
            self._boot,
        )

    async def _persist_position(self, position: int) -> None:
        await self._store.transact(lambda tx: identities.put_position(tx, position))

    def _candidates(self) -> list[NodeRef]:
        seeds = [NodeRef(Uid(""), "", -1, at.host, at.port, 0, 0, 0) for at in self._config.seed]
        return [*self._remembered, *seeds]

    def _remember(self, refs: Sequence[NodeRef]) -> None:
        known = {ref.uid: ref for ref in (*self._remembered, *refs) if ref.uid and ref.uid != self._me.uid}
        newest = list(known.values())
        if newest != self._remembered:
            self._remembered = newest
            self._tasks.start(self._store.transact(lambda tx: identities.remember(tx, newest)), "remember peers")

    def _met_foreign(self, hello: PeerHello) -> None:
        if self._membership is not None:
            self._tasks.start(self._judge_foreign(self._membership, hello), "another ring")

    async def _judge_foreign(self, ring: Membership, hello: PeerHello) -> None:
        def holds(tx: Tx) -> bool:
            return bool(tx.slots_with_records() or tx.slots_with_accounts())

        alone = self._replica is None or not self._replica.driver.successors()
        first = self._foreign.setdefault(hello.ring_uid, self._clock.now())
        decided = identities.meet(
            ring,
            hello,
            expected=self._config.ring_uid,
            holds_data=not alone or await self._store.read(holds),
            seen_for=self._clock.now() - first,
        )
        if decided is Meeting.SAY:
            log.error("another ring", what=identities.stranger(ring, hello))
        elif decided is Meeting.GIVE_UP:
            log.warning("gives its empty ring up to join another", ring_uid=hello.ring_uid)
            self.gave_up = True
            self.stopped.set()

    async def _listen(self, app: web.Application, address: Address, what: str) -> None:
        port = Port(app, address, f"the {what} API", f"--listen-{what}")
        await port.start()
        self._stack.push_async_callback(port.close)


def without_founding(config: NodeConfig) -> NodeConfig:
    """Return the settings for a node that has given its ring up: it founds no other."""
    return replace(config, found=False)
