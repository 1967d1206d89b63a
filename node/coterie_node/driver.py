"""Runs a ring on the node's clock, links and disk, and tells the other rooms what it suggests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from coterie_protocol.errors import CoterieError, ErrorCode, Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef
from coterie_protocol.ring import Beat, FindOwner, GetNeighbours, Meet, Neighbours, Notify, Nudge, Place

from .ring import (
    Answer,
    Ask,
    Changed,
    Confirm,
    Effect,
    Hop,
    Joined,
    Moved,
    Owner,
    Persist,
    Resolve,
    Ring,
    RingSettings,
    Send,
    StartTimer,
    Timer,
)
from .ring.arcs import Arcs
from .ring.interval import distance
from .ring.lookup import LookupTotals
from .ring.placement import first_members
from .runtime.ports import Clock, Handlers, Peers, StoreError, Tasks
from .telling import tell

if TYPE_CHECKING:
    import random

log = structlog.get_logger()

CACHED_FOR = 1.0
"""Seconds for which the answer of a lookup stands for the owner's whole arc."""
LOOKUPS_AT_ONCE = 8
MAX_EXTENSIONS = 4
"""How many nodes further on are asked for their successors when too many nodes want to leave."""


class Driver:
    """This node's place in the ring (`ports.Suggestions` among others).

    `persist_position` keeps a position with the data and returns after the fsync; `candidates` names nodes of this ring
    that discovery or the disk know of (one with an empty uid is only an address); `remember` is given the nodes in
    sight whenever they change.
    """

    def __init__(
        self,
        me: NodeRef,
        settings: RingSettings,
        replication_factor: int,
        slots: int,
        peers: Peers,
        handlers: Handlers,
        tasks: Tasks,
        clock: Clock,
        rng: random.Random,
        persist_position: Callable[[int], Awaitable[None]],
        candidates: Callable[[], list[NodeRef]],
        remember: Callable[[Sequence[NodeRef]], None],
    ) -> None:
        self._settings = settings
        self._replication_factor = replication_factor
        self._slots = slots
        self._peers = peers
        self._tasks = tasks
        self._clock = clock
        self._persist_position = persist_position
        self._candidates = candidates
        self._remember = remember
        self._ring = Ring(me, settings, replication_factor, slots, rng)
        self._closed = False
        self._joined = asyncio.Event()
        self._timers: dict[Timer, int] = {}
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._resolving: set[str] = set()
        self._watchers: list[Callable[[], None]] = []
        self._arcs = Arcs(slots, CACHED_FOR)
        for request in (FindOwner, GetNeighbours, Meet, Place):
            handlers.on_request(request, self._on_request)
        for event in (Notify, Nudge, Beat):
            handlers.on_event(event, self._on_event)
        peers.watch(self._on_link)

    # --- what can be seen ---

    @property
    def me(self) -> NodeRef:
        """Return this node's reference as it is now: its position and incarnation change."""
        return self._ring.me

    @property
    def state(self) -> str:
        """Return "joining", "ready" or "leaving"."""
        if not self._ring.member:
            return "joining"
        return "leaving" if self._ring.me.leaving else "ready"

    def successors(self) -> list[NodeRef]:
        """Return the successor list, nearest first."""
        return list(self._ring.successors)

    def predecessor(self) -> NodeRef | None:
        """Return the predecessor; None when it is not known, or the node is alone."""
        return self._ring.predecessor

    def fingers(self) -> list[NodeRef]:
        """Return the distinct fingers, the farthest first."""
        return self._ring.fingers

    @property
    def size(self) -> int:
        """Return how many nodes this one's circle has, 0 in none; an estimate when it does not see all of it."""
        return self._ring.size if self._ring.member else 0

    @property
    def changes(self) -> Mapping[str, int]:
        """Return how many nodes joined, left, failed and moved in this node's sight, since the start."""
        return self._ring.changes

    @property
    def lookups(self) -> LookupTotals:
        """Return how this node's lookups went, since the start."""
        return self._ring.lookups

    @property
    def arc_share(self) -> float:
        """Return which part of the circle this node owns: 1.0 alone, 0.0 while that is not known."""
        before = self._ring.predecessor
        if not self._ring.member:
            return 0.0
        if before is None:
            return 0.0 if self._ring.successors else 1.0
        return distance(before.position, self.me.position, self._slots) / self._slots

    def watch(self, callback: Callable[[], None]) -> None:
        """Call back when this node's reference, its predecessor or its successors have changed."""
        self._watchers.append(callback)

    # --- what can be done ---

    def start(self, found: bool = False) -> None:
        """Begin: with a position, form a circle at once; without, found the ring, or ask for a place."""
        self._learn_candidates()
        self._run(self._ring.start(self._clock.now(), found))

    async def joined(self) -> None:
        """Wait until this node is in a circle (its own counts)."""
        await self._joined.wait()

    async def lookup(self, slot: int) -> Owner:
        """Look up who owns a slot as the ring sees it. Raises Unavailable when nobody can tell in time."""
        self._check_slot(slot)
        token, effects = self._ring.lookup(self._clock.now(), slot)
        owner: Owner | None = await self._wait(token, effects)
        if owner is None:
            raise Unavailable(f"nobody could tell who owns slot {slot}; the ring may be healing, try again")
        self._peers.learn(ref for ref in (owner.owner, owner.predecessor, *owner.successors) if ref is not None)
        return owner

    async def trace(self, slot: int) -> tuple[Owner | None, list[Hop]]:
        """Look a slot's owner up as `lookup` does; return also each step, None for the owner if it came to nothing."""
        self._check_slot(slot)
        path: list[Hop] = []
        token, effects = self._ring.lookup(self._clock.now(), slot, path)
        owner: Owner | None = await self._wait(token, effects)
        return owner, path

    def leave(self) -> None:
        """Suggest nothing to this node any more; it stays in the ring."""
        self._run(self._ring.leave(self._clock.now(), True))

    def relocate(self, host: str) -> None:
        """Tell the others that this node is reached at another host."""
        self._run(self._ring.relocate(self._clock.now(), host))

    def cancel_leave(self) -> None:
        """Take `leave` back."""
        self._run(self._ring.leave(self._clock.now(), False))

    async def move(self, position: int) -> None:
        """Stand at another position. Raises CoterieError BAD_REQUEST, saying why, when that cannot be."""
        token, effects = self._ring.move(self._clock.now(), position)
        refusal = await self._wait(token, effects)
        if refusal:
            raise CoterieError(refusal, code=ErrorCode.BAD_REQUEST)

    def close(self) -> None:
        """Stop: whoever still waits is told that the node goes away."""
        self._closed = True
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(CoterieError("the node is going away", code=ErrorCode.SHUTTING_DOWN))

    # --- ports.Suggestions ---

    async def members(self, slots: Sequence[int]) -> dict[int, tuple[Uid, ...]]:
        """Return for each slot the K nodes that should hold it, the owner first; what cannot be told is missing."""
        found: dict[int, tuple[Uid, ...]] = {}
        for slot in slots:
            self._check_slot(slot)
        if not self._ring.member:
            return found
        near: dict[Uid, tuple[NodeRef, ...]] = {}
        rest = []
        for slot in dict.fromkeys(slots):
            owner = self._ring.owner(slot)
            if owner is None:
                rest.append(slot)
                continue
            if owner.owner.uid not in near:
                near[owner.owner.uid] = await self._chain(owner)
            found[slot] = first_members(near[owner.owner.uid], self._replication_factor)
        await self._look_up(rest, found)
        return found

    def standins(self, members: Iterable[Uid]) -> list[Uid]:
        """Return the live successors that are not among `members`, nearest first; those that leave come last."""
        taken = set(members)
        live = [ref for ref in self._ring.successors if ref.uid not in taken and self._peers.alive(ref.uid)]
        return [ref.uid for ref in sorted(live, key=lambda ref: ref.leaving)]

    async def _look_up(self, pending: list[int], found: dict[int, tuple[Uid, ...]]) -> None:
        """Look up slots of other arcs: a few at once, each answer for all slots of its arc."""
        while True:
            chains, pending = self._arcs.split(self._clock.now(), pending)
            found.update({slot: first_members(chain, self._replication_factor) for slot, chain in chains.items()})
            if not pending:
                return
            asked = pending[:: max(1, len(pending) // LOOKUPS_AT_ONCE)][:LOOKUPS_AT_ONCE]
            results = await asyncio.gather(*(self._arc(slot) for slot in asked))
            if not any(results):
                return
            failed = {slot for slot, known in zip(asked, results, strict=True) if not known}
            pending = [slot for slot in pending if slot not in failed]

    async def _arc(self, slot: int) -> bool:
        try:
            owner = await self.lookup(slot)
        except Unavailable as error:
            log.debug("no suggestion", slot=slot, reason=error.detail)
            return False
        self._arcs.add(self._clock.now(), owner, await self._chain(owner))
        return True

    async def _chain(self, owner: Owner) -> tuple[NodeRef, ...]:
        """Return an owner and its successors, as far as it takes to find K nodes that stay."""
        chain = {ref.uid: ref for ref in (owner.owner, *owner.successors)}
        # A list that is shorter than it might be ends where the ring does: just before the owner.
        whole = len(owner.successors) < self._ring.length - 1
        if whole and owner.predecessor is not None:
            chain.setdefault(owner.predecessor.uid, owner.predecessor)
        for _ in range(MAX_EXTENSIONS):
            if whole or len(first_members(chain.values(), self._replication_factor)) == self._replication_factor:
                break
            further = await self._successors_of(list(chain.values())[-1])
            before = len(chain)
            for ref in further:
                chain.setdefault(ref.uid, ref)
            whole = len(chain) == before
        self._peers.learn(chain.values())
        return tuple(chain.values())

    async def _successors_of(self, ref: NodeRef) -> tuple[NodeRef, ...]:
        if ref.uid == self.me.uid:
            return self._ring.successors
        message = GetNeighbours(self._ring.standing(self._clock.now()))
        self._peers.learn((ref,))
        try:
            answer = await self._peers.request(ref.uid, message, self._settings.ask_timeout)
        except CoterieError:
            return ()
        return answer.successors if isinstance(answer, Neighbours) else ()

    # --- effects ---

    def _run(self, effects: list[Effect]) -> None:
        for effect in effects:
            try:
                self._carry_out(effect)
            except Exception:
                # Those after it go on: a timer among them that is not set would never run again.
                log.exception("an effect of the ring failed", effect=type(effect).__name__)

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            self._send(effect)
        elif isinstance(effect, Ask):
            self._tasks.start(self._ask(effect), "ring ask")
        elif isinstance(effect, StartTimer):
            generation = self._timers.get(effect.timer, 0) + 1
            self._timers[effect.timer] = generation
            self._tasks.start(self._timer(effect, generation), f"ring {effect.timer.value}")
        elif isinstance(effect, Confirm):
            self._tasks.start(self._confirm(effect), "ring confirm")
        elif isinstance(effect, Persist):
            self._tasks.start(self._persist(effect.position), "ring persist")
        elif isinstance(effect, Joined):
            self._joined.set()
            log.info("in the ring", position=self.me.position, alone=effect.successor == self.me.uid)
        elif isinstance(effect, Changed):
            self._changed()
        elif isinstance(effect, Resolve):
            self._resolve(effect.token, effect.owner)
        elif isinstance(effect, Moved):
            self._resolve(effect.token, effect.refusal)

    def _send(self, effect: Send) -> None:
        self._peers.learn((effect.to,))
        if not self._peers.send(effect.to.uid, effect.message):
            self._tasks.start(self._send_unlinked(effect), "ring send")

    async def _send_unlinked(self, effect: Send) -> None:
        try:
            await self._peers.contact(effect.to.host, effect.to.peer_port, self._settings.ask_timeout)
        except CoterieError as error:
            log.debug("not told", peer=effect.to.uid, reason=error.detail)
            return
        self._peers.send(effect.to.uid, effect.message)

    async def _ask(self, effect: Ask) -> None:
        self._peers.learn((effect.to,))
        answer = None
        try:
            answer = await self._peers.request(effect.to.uid, effect.message, effect.timeout)
        except CoterieError as error:
            log.debug("no answer", peer=effect.to.uid, reason=error.detail)
        if self._closed:
            return
        try:
            effects = self._ring.on_answer(self._clock.now(), effect.token, answer)
        except Exception:
            log.exception("an answer was not understood; it counts as none", peer=effect.to.uid)
            effects = self._ring.on_answer(self._clock.now(), effect.token, None)
        self._run(effects)

    async def _timer(self, effect: StartTimer, generation: int) -> None:
        await self._clock.sleep(effect.after)
        if self._closed or self._timers[effect.timer] != generation:
            return
        if effect.timer in (Timer.MEET, Timer.JOIN):
            self._learn_candidates()
        try:
            effects = self._ring.on_timer(self._clock.now(), effect.timer)
        except Exception:
            # What it is for must go on: nobody but this very call would set the timer again.
            log.exception("a timer of the ring failed; it is set again", timer=effect.timer.value)
            effects = [effect]
        self._run(effects)

    async def _confirm(self, effect: Confirm) -> None:
        alive = await self._peers.probe(effect.ref, effect.timeout)
        if not self._closed:
            if not alive:
                log.info("node is dead", peer=effect.ref.uid, name=effect.ref.name)
            self._run(self._ring.on_confirmed(self._clock.now(), effect.ref.uid, alive))

    async def _persist(self, position: int) -> None:
        kept = True
        try:
            await self._persist_position(position)
        except (StoreError, CoterieError, OSError) as error:
            log.error("position not written", position=position, reason=str(error))
            kept = False
        if not self._closed:
            self._run(self._ring.on_persisted(self._clock.now(), kept))

    def _changed(self) -> None:
        near = {ref.uid: ref for ref in (self._ring.predecessor, *self._ring.successors) if ref is not None}
        self._arcs.clear()
        self._peers.learn(near.values())
        self._peers.want(near)
        if near:
            self._remember([*near.values(), *(ref for ref in self._ring.fingers if ref.uid not in near)])
        tell(self._watchers)

    # --- what comes in ---

    async def _on_request(self, sender: Uid, message: Any) -> Any:
        if self._closed:
            raise CoterieError("the node is going away", code=ErrorCode.SHUTTING_DOWN)
        if isinstance(message, FindOwner):
            self._check_slot(message.slot)
        answer = None
        effects: list[Effect] = []
        for effect in self._ring.on_message(self._clock.now(), sender, message):
            if isinstance(effect, Answer):
                answer = effect.message
            else:
                effects.append(effect)
        self._run(effects)
        if answer is None:
            raise CoterieError("a message that names another node as its sender", code=ErrorCode.BAD_REQUEST)
        return answer

    def _on_event(self, sender: Uid, message: Any) -> None:
        # An event has nobody to answer: one that comes while the node goes away is simply too late.
        if not self._closed:
            self._run(self._ring.on_message(self._clock.now(), sender, message))

    def _on_link(self, uid: Uid, alive: bool) -> None:
        if not alive and not self._closed:
            self._run(self._ring.on_unreachable(self._clock.now(), uid))

    # --- helpers ---

    async def _wait(self, token: int, effects: list[Effect]) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        self._run(effects)
        try:
            return await future
        finally:
            self._waiting.pop(token, None)

    def _resolve(self, token: int, result: Any) -> None:
        future = self._waiting.get(token)
        if future is not None and not future.done():
            future.set_result(result)

    def _learn_candidates(self) -> None:
        """Hand the ring the nodes to ask; find out who answers at bare addresses."""
        candidates = self._candidates()
        self._ring.learn(ref for ref in candidates if ref.uid)
        for ref in candidates:
            if not ref.uid and ref.address not in self._resolving:
                self._resolving.add(ref.address)
                self._tasks.start(self._meet_address(ref), "ring candidate")

    async def _meet_address(self, ref: NodeRef) -> None:
        try:
            self._ring.learn((await self._peers.contact(ref.host, ref.peer_port, self._settings.ask_timeout),))
        except CoterieError as error:
            log.debug("candidate does not answer", address=ref.address, reason=error.detail)
        finally:
            self._resolving.discard(ref.address)

    def _check_slot(self, slot: int) -> None:
        if not 0 <= slot < self._slots:
            raise CoterieError(
                f"slot {slot} is not one of the ring's slots 0 to {self._slots - 1}", code=ErrorCode.BAD_REQUEST
            )
