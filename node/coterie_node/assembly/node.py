"""One running node: the rooms, put together in the order in which they can work.

Store and identity come first, then the admin port (so that health answers from the beginning), then the links. A node
without a ring waits here for one; only with the ring's uid, K and S known are the rooms built that depend on them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import structlog
from aiohttp import web

from coterie_protocol.frames import PEER_VERSION_HIGH, PEER_VERSION_LOW
from coterie_protocol.identifiers import DEFAULT_SLOTS, Uid, uid_of
from coterie_protocol.nodes import NodeRef, PeerHello
from coterie_protocol.urls import is_unspecified

from ..api.admin import MAX_BODY_BYTES, admin_app
from ..api.metrics.exposition import Exposition
from ..api.metrics.sources import Parts, Sources, near_nodes
from ..api.ports import Facts
from ..api.view import View
from ..bootstrap import identity as identities
from ..bootstrap.identity import Beginning, Identity, Membership
from ..bootstrap.join import Search
from ..bootstrap.other_rings import Strangers
from ..discovery.choose import choose
from ..discovery.dns import search_list
from ..discovery.lookout import Lookout
from ..http.guard import PortLimits
from ..http.listening import Port
from ..http.origins import admin_names
from ..peer.links import Links
from ..peer.rtt import Echo
from ..peer.settings import peer_settings
from ..peer.whereabouts import Whereabouts
from ..replication.settings import ReplicationSettings
from ..runtime.clock import SystemClock
from ..runtime.dispatch import Dispatcher, TaskGroup
from ..store.directory import ADMIN_NAME
from ..store.errors import StoreDamaged, StoreError
from ..store.store import Store
from ..version import VERSION
from ..watched import WatchedFile
from . import downtime
from .admin_view import LateView
from .frontend import Edge
from .health_log import CAME_BACK, Herald
from .replica import Replica

if TYPE_CHECKING:
    from ..config.settings import Address, NodeConfig
    from ..runtime.ports import Tx
    from ..store.tx import Transaction

log = structlog.get_logger()

DEFAULT_REPLICATION_FACTOR = 3
ADMIN_LIMITS = PortLimits(connections=512, per_address=128, idle=60.0, reserve=64, body=MAX_BODY_BYTES)
DRAIN_SECONDS = 8.0
"""How long a stopping node lets commits and clients finish; SIGTERM promises 10 s in all."""


class Ending(Enum):
    """Why a node wants to stop."""

    GAVE_UP = "gave up"
    """It gave its empty ring up, to start anew and join another."""
    OUTLIVED = "outlived"
    """The ring went on without it: it is to return as a new node."""
    CUT_OFF = "cut off"
    """It was cut off from its ring for too long: it is to start again, and to ask what became of the ring."""


class Node:
    """Starts and stops everything. `ending` says why it wants to stop, if it does.

    Raises ConfigError when the ring's secret is needed and cannot be read.
    """

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._safe = config.tombstone_ttl - config.message_ttl
        """Seconds that the node may be away and go on as if nothing had been."""
        self._clock = SystemClock()
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311  (jitter, not secrets)
        self._boot = secrets.token_hex(16)
        self._dispatcher = Dispatcher(complete=False)
        self._tasks = TaskGroup()
        self._discovery = choose(config, self._hello)
        self._lookout = Lookout(self._discovery, self._clock, self._alone)
        self._waiting = "starting"
        self._whereabouts = Whereabouts(config.advertise, config.listen_peer.host)
        self._stack = contextlib.AsyncExitStack()
        self._edge: Edge | None = None
        self._replica: Replica | None = None
        self._membership: Membership | None = None
        self._me: NodeRef
        self._remembered: list[NodeRef] = []
        self._links: Links
        self._store: Store
        self._strangers: Strangers
        self._metrics: Sources
        self.stopped = asyncio.Event()
        """Set when the node itself wants to stop."""
        self.ending: Ending | None = None
        self.damage: StoreDamaged | None = None
        """What was found about its database, if it stops because of that: the ring is to replace it."""
        self._away = ""
        """How long the node was away, if that was too long."""
        self._returning = ""
        """What it still has to find out because of that."""

    async def start(self) -> None:
        """Start the node; returns when it takes clients. Raises StoreError, ListenError, WrongRing."""
        config = self._config
        self._store = await Store.open(config.data_dir)
        self._stack.push_async_callback(self._store.close)
        self._store.watchers.health.append(self._disk_failed)
        await self._identify()
        view = LateView(self._ref, VERSION, lambda: self._waiting)
        token = WatchedFile(config.admin_token_file) if config.admin_token_file else None
        self._metrics = Sources(self._ref, VERSION, lambda: view.readiness().state, self._store)
        app = admin_app(view, token, Exposition(self._metrics), page=config.page == "on", names=_admin_names(config))
        admin = await self._listen(app, config.listen_admin, "admin", ADMIN_LIMITS)
        self._leave_address(admin)
        self._links = Links(
            self._hello, self._dispatcher, self._clock, self._tasks, peer_settings(config), self._notice
        )
        self._metrics.links = self._links
        self._stack.push_async_callback(self._tasks.close)
        self._stack.push_async_callback(self._links.close)
        self._links.learn(self._remembered)
        self._strangers = Strangers(
            config.ring_uid, self._store, self._clock, self._alone, partial(self._end, Ending.GAVE_UP)
        )
        self._links.watch_foreign(self._met_foreign)
        port = await self._links.start(config.listen_peer.host, config.listen_peer.port)
        self._me = msgspec.structs.replace(self._me, peer_port=port)
        await self._discovery.start()
        self._stack.push_async_callback(self._discovery.close)
        if self._membership is None:
            search = Search(config, self._discovery, self._links, self._clock, self._rng, self._say_waiting)
            await self._belong(await search.find())
            self._links.ring_changed()
        self._tasks.keep(self._lookout.run, "discovery")
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

        def load(tx: Tx) -> tuple[Identity, list[NodeRef], int, str, bool]:
            found = identities.load(tx, lambda: uid_of(secrets.token_bytes(16)))
            wall_ms = self._clock.wall_ms()
            incarnation = identities.next_incarnation(tx, wall_ms)
            away = downtime.long_away(tx, wall_ms, self._safe)
            return found, identities.remembered(tx), incarnation, away, identities.had_left(tx)

        identity, self._remembered, incarnation, self._away, had_left = await self._store.transact(load)
        if had_left:
            log.warning("was started again", name=config.name, what=CAME_BACK)
        beginning = identities.begin(
            identity,
            found=config.founds,
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
        self._me = NodeRef(
            identity.uid,
            config.name,
            identity.position,
            self._whereabouts.host,
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

    def _say_waiting(self, what: str) -> None:
        self._waiting = what

    async def _take_part(self, view: LateView) -> None:
        config, membership = self._config, self._membership
        assert membership is not None
        settings = ReplicationSettings(
            replace_after=config.replace_after,
            handover_round=config.handover_round,
            repair_interval=config.repair_interval,
            message_ttl=config.message_ttl,
            tombstone_ttl=config.tombstone_ttl,
            bulk_bytes_per_second=config.bulk_bytes_per_second,
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
            messages=edge.messages,
            synced=lambda: replica.synced,
            store_fault=lambda: str(self._store.failure or ""),
            waiting_for=lambda: self._waiting,
            returning=lambda: self._returning,
        )
        full = View(
            replica.driver,
            replica.table,
            replica.repair,
            replica.strays,
            replica.recovery,
            self._links,
            self._store,
            self._clock,
            facts,
        )
        full.register(self._dispatcher)
        self._dispatcher.complete = True
        view.become(full)
        echo = Echo(self._links, lambda: [ref.uid for ref in near_nodes(replica.driver)], self._clock)
        self._metrics.parts = Parts(
            ring_uid=membership.ring_uid,
            ring=replica.driver,
            table=replica.table,
            part=full.part,
            repair=replica.repair,
            offers=replica.offers,
            handover=replica.handover,
            accounts=replica.accounts,
            appender=replica.appender,
            ageing=replica.ageing,
            echo=echo,
            chat=edge.counts,
            sessions=edge.sessions,
        )
        self._tasks.keep(echo.run, "round trips")
        if not await replica.start(self._say_returning if self._away else None):
            log.warning("the ring went on without this node: it empties itself and returns as a new one")
            self._end(Ending.OUTLIVED)
            return
        self._returning = ""
        watch = downtime.Watch(replica, self._store, self._clock, self._safe, partial(self._end, Ending.CUT_OFF))
        self._links.watch(lambda _, alive: watch.peer(alive))
        self._tasks.keep(watch.run, "stay in touch")
        edge.begin()
        await self._listen(edge.app, config.listen_client, "client", edge.limits)
        log.info("takes clients", at=str(config.listen_client), position=replica.driver.me.position)
        self._tasks.keep(Herald(view.readiness, self._note_left, self._clock, self._me.name).run, "herald")
        await replica.sync()

    def _say_returning(self, what: str) -> None:
        """Say what a node that was away for too long waits for; in the log when that has changed."""
        returning = f"was away {self._away}: {what}"
        if returning != self._returning:
            self._returning = returning
            log.warning("was away for too long", what=returning)

    def _disk_failed(self, failure: StoreError | None) -> None:
        if isinstance(failure, StoreDamaged) and self.damage is None:
            # It can neither take nor give anything: as long as it lives, its slots go without one member.
            log.error("its database is damaged: the node stops")
            self.damage = failure
            self.stopped.set()

    def _end(self, ending: Ending) -> None:
        self.ending = ending
        self.stopped.set()

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

    def _notice(self, local: str) -> None:
        """Learn where this node is from its own end of a connection with a peer, unless somebody has said it."""
        if not self._whereabouts.notice(local):
            return
        host = self._whereabouts.host
        log.info("others reach this node here", host=host, why="a connection with a peer; --advertise sets another")
        if self._replica is not None:
            self._replica.driver.relocate(host)
        else:
            self._me = msgspec.structs.replace(self._me, host=host, incarnation=self._me.incarnation + 1)

    async def _note_left(self, left: bool) -> None:
        with contextlib.suppress(StoreError):  # a courtesy: its disk may be what is wrong
            await self._store.transact(lambda tx: identities.note_left(tx, left))

    async def _persist_position(self, position: int) -> None:
        await self._store.transact(lambda tx: identities.put_position(tx, position))

    def _candidates(self) -> list[NodeRef]:
        """Name the nodes that may be of this ring: remembered ones, and whoever is where discovery points.

        After a power cut of a whole cluster only discovery knows where anybody is. Whose link stands needs no dial.
        """
        linked = {ref.address: ref for ref in self._links.book.all() if self._links.alive(ref.uid)}
        found = [
            linked.get(str(at)) or NodeRef(Uid(""), "", -1, at.host, at.port, 0, 0, 0) for at in self._lookout.addresses
        ]
        return [*self._remembered, *found]

    def _remember(self, refs: Sequence[NodeRef]) -> None:
        known = {ref.uid: ref for ref in (*self._remembered, *refs) if ref.uid and ref.uid != self._me.uid}
        newest = list(known.values())
        if newest != self._remembered:
            self._remembered = newest
            self._tasks.start(self._store.transact(lambda tx: identities.remember(tx, newest)), "remember peers")

    def _alone(self) -> bool:
        return self._replica is None or not self._replica.driver.successors()

    def _met_foreign(self, hello: PeerHello) -> None:
        if self._membership is not None:
            self._tasks.start(self._strangers.met(self._membership, hello), "another ring")

    async def _listen(self, app: web.Application, address: Address, what: str, limits: PortLimits) -> int:
        port = Port(app, address, f"the {what} API", f"--listen-{what}", limits)
        number = await port.start()
        self._stack.push_async_callback(port.close)
        return number

    def _leave_address(self, port: int) -> None:
        """Write where the admin port is into the data directory, for `coterie-node recover --data-dir`."""
        host = self._config.listen_admin.host
        if is_unspecified(host):  # everywhere includes loopback
            host = "::1" if ":" in host else "127.0.0.1"
        with contextlib.suppress(OSError):  # A courtesy only: a full disk must not keep the node from starting.
            (self._config.data_dir / ADMIN_NAME).write_text(f"http://{f'[{host}]' if ':' in host else host}:{port}\n")


def _admin_names(config: NodeConfig) -> list[str]:
    """Return the names by which people and programs may know the admin port."""
    return admin_names(
        listen=config.listen_admin.host,
        advertise=config.advertise,
        hostname=socket.gethostname(),
        service=config.peers_service if config.discovery == "dns" else "",
        search=search_list(),
        others=config.admin_host,
    )


def without_founding(config: NodeConfig) -> NodeConfig:
    """Return the settings for a node that has given its ring up: it founds no other."""
    return replace(config, found=False, founder="")


async def begin_anew(config: NodeConfig) -> None:
    """Make a new node of the data directory of one that the ring has outlived. It must not run. Raises StoreError."""

    def begin(tx: Transaction) -> None:
        tx.forget_everything()
        identities.become_new(tx)

    store = await Store.open(config.data_dir)
    try:
        await store.transact(begin)
    finally:
        await store.close()
