"""Bringing the new members of joint configurations up to date: rule 12 of the slot protocol.

Accounts are listed by a majority of the old members that are already at the joint configuration, and each is accepted
again under the joint quorum. Mailbox records go by digest, from a majority of the old to every new member that lives.
Whoever takes over syncs afresh: nothing here is remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import structlog

from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import AccountList, AccountPromises, KnownConfig, majority
from coterie_protocol.replication import SyncState, SyncStates
from coterie_protocol.weight import weight_of_promise

from ..configuration import SlotTable
from ..consensus.acceptor import LIST_PAGE, PAGE_BYTES
from ..consensus.acceptors import Members
from ..consensus.registers import Accounts
from ..settings import ReplicationSettings

log = structlog.get_logger()

AT_ONCE = 32
"""Slots whose contents are copied at the same time, whatever their batch. Each waits for one fsync of the other node
after the other; with 16 two cores were idle a third of the time. More would only make the commits long that appends
wait for."""


class Copier(Protocol):
    """What copies mailbox records (`repair.Repair`)."""

    async def pull(self, slot: int, uid: Uid) -> None:
        """Take over every record of a slot that another node has and this one lacks."""
        ...

    async def push(self, slot: int, uid: Uid) -> None:
        """Give another node every record of a slot that it lacks."""
        ...


class Sync:
    """Brings joint configurations' new members up to date."""

    def __init__(
        self,
        table: SlotTable,
        members: Members,
        accounts: Accounts,
        copier: Copier,
        settings: ReplicationSettings,
    ) -> None:
        self._table = table
        self._members = members
        self._accounts = accounts
        self._copier = copier
        self._settings = settings
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def run(self, joints: Sequence[KnownConfig]) -> list[KnownConfig]:
        """Sync slots and return those that are complete."""
        states = await self._states(joints)

        async def one(joint: KnownConfig) -> bool:
            async with self._gate:
                try:
                    return await self._slot(joint, states.get(joint.slot, {}))
                except CoterieError as error:
                    log.info("slot not synced", slot=joint.slot, reason=error.detail)
                    return False
                except Exception:
                    log.exception("slot not synced", slot=joint.slot)
                    return False

        results = await asyncio.gather(*(one(joint) for joint in joints))
        return [joint for joint, done in zip(joints, results, strict=True) if done]

    async def _states(self, joints: Sequence[KnownConfig]) -> dict[int, dict[Uid, tuple[int, int]]]:
        """Ask all live members how much they hold: {slot: {uid: (accounts, digest)}}, of those at the joint one."""
        batches: dict[Uid, list[KnownConfig]] = {}
        for joint in joints:
            for uid in joint.config.members:
                if self._table.live(uid):
                    batches.setdefault(uid, []).append(joint)
        states: dict[int, dict[Uid, tuple[int, int]]] = {}

        def answer(uid: Uid, reply: Any) -> None:
            if isinstance(reply, SyncStates):
                for item in reply.items:
                    if item.accounts >= 0:
                        states.setdefault(item.slot, {})[uid] = (item.accounts, item.digest)

        messages = {
            uid: SyncState([(joint.slot, *joint.config.identity) for joint in batch])
            for uid, batch in sorted(batches.items())
        }
        await self._members.ask_all(messages, self._settings.round_timeout, answer, lambda: False)
        return states

    async def _slot(self, joint: KnownConfig, states: dict[Uid, tuple[int, int]]) -> bool:
        config = joint.config
        sources = [uid for uid in config.old if uid in states]
        targets = [uid for uid in config.new if uid in states]
        if not majority(config.old, set(sources)) or not majority(config.new, set(targets)):
            return False
        # With the same members in another order, each majority of the old is one of the new.
        moved = set(config.old) != set(config.new) and any(states[uid][0] for uid in sources)
        if moved and not await self._copy_accounts(joint, sources):
            return False
        return await self._copy_records(joint, sources, targets, {uid: states[uid][1] for uid in (*sources, *targets)})

    async def _copy_accounts(self, joint: KnownConfig, sources: Sequence[Uid]) -> bool:
        """Re-accept the union of what a majority of the old members lists (rule 12)."""
        names: dict[str, int] = {}
        heard: set[Uid] = set()
        for uid in sources:
            listed = await self._list(joint, uid)
            if listed is not None:
                names.update((name, max(size, names.get(name, 0))) for name, size in listed.items())
                heard.add(uid)
        if not majority(joint.config.old, heard):
            return False
        for page in _pages(names):
            if not await self._accounts.accept_again(joint, page):
                return False
        return True

    async def _list(self, joint: KnownConfig, uid: Uid) -> dict[str, int] | None:
        """Return what a member has of the slot's accounts, each with its weight; None when it does not answer."""
        names: dict[str, int] = {}
        after, more = "", True
        while more:
            request = AccountList(joint.slot, *joint.config.identity, after)
            try:
                reply = await self._members.ask(uid, request, self._settings.round_timeout)
            except CoterieError:
                return None
            if not isinstance(reply, AccountPromises):
                return None
            names.update((item.name, weight_of_promise(item)) for item in reply.items)
            more = reply.more and bool(reply.items)
            after = reply.items[-1].name if reply.items else after
        return names

    async def _copy_records(
        self, joint: KnownConfig, sources: Sequence[Uid], targets: Sequence[Uid], digests: dict[Uid, int]
    ) -> bool:
        """Read from a majority of the old members, then bring every new member that lives up to date.

        Whose digest of the slot is this node's own has the same records; what is appended from now on, while the
        configuration is joint, reaches old and new alike.
        """
        me = self._members.me
        mine = digests.get(me)
        for uid in sources:
            if uid != me and digests[uid] != mine:
                await self._copier.pull(joint.slot, uid)
                mine = None  # whatever it is by now
        for uid in targets:
            if uid != me and digests[uid] != mine:
                await self._copier.push(joint.slot, uid)
        return majority(joint.config.new, set(targets))


def _pages(weights: dict[str, int]) -> list[list[str]]:
    """Cut names, in order, into pages whose accounts one message can carry."""
    pages: list[list[str]] = []
    size = 0
    for name in sorted(weights):
        if not pages or len(pages[-1]) == LIST_PAGE or size + weights[name] > PAGE_BYTES:
            pages.append([])
            size = 0
        pages[-1].append(name)
        size += weights[name]
    return pages
