"""A world whose nodes chat: the real rooms of chat upon those of replication, in each simulated process."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

from tests.sim.invariants import Witness
from tests.sim.links import SimLink
from tests.sim.network import RESET_NOTICED
from tests.sim.world import Process, World

from coterie_node.chat.gateway.conversation import NodeFacts
from coterie_node.chat.gateway.logins import Passwords
from coterie_node.chat.service import Chat
from coterie_node.chat.settings import ChatSettings
from coterie_node.replication.settings import ReplicationSettings
from coterie_protocol.account import Account, decode_account
from coterie_protocol.identifiers import Uid


async def _hash(password: bytes, _: str) -> bytes:
    return hashlib.sha256(password).digest()


async def _check(password: bytes, hashed: bytes, _: str) -> bool:
    return hashlib.sha256(password).digest() == hashed


PASSWORDS = Passwords(_hash, _check)
"""What takes the place of bcrypt, which would need threads and a quarter of a second."""


def chat_of(process: Process, factor: int, slots: int, settings: ChatSettings) -> Chat:
    """Put the rooms of chat together in a process, and start them."""

    def chat() -> Chat:
        facts = NodeFacts("ring", process.uid, process.uid, factor, slots, lambda: "ready", list)
        rooms = Chat(
            table=process.table,
            router=process.router,
            accounts=process.accounts,
            appender=process.appender,
            repair=process.repair,
            ages=process.calendar,
            arrivals=process.arrivals,
            store=process.store,
            peers=process.peers,
            dispatcher=process.dispatcher,
            clock=process.clock,
            tasks=process.tasks,
            passwords=PASSWORDS,
            facts=facts,
            settings=settings,
        )
        rooms.start()
        return rooms

    return process.context.copy().run(chat)


class ChatWitness(Witness):
    """Knows what may become of an account: it is never anybody else's, and its session epoch only rises."""

    def follows(self, earlier: bytes, later: bytes) -> bool:
        """Say whether a value of an account can have become another, or stayed the same."""
        if not earlier or earlier == later:
            return True
        if not later:
            return False
        one, two = _decoded(earlier), _decoded(later)
        if one.create_op != two.create_op or one.session.epoch > two.session.epoch:
            return False
        return one.session.epoch < two.session.epoch or (
            one.session.op == two.session.op and _ended(one) <= _ended(two)
        )


@lru_cache(4096)
def _decoded(value: bytes) -> Account:
    return decode_account(value)


def _ended(account: Account) -> bool:
    return account.session.ended_at != 0


class ChatWorld(World):
    """A world of nodes that chat. Use it as `async with`."""

    def __init__(self, *, chat_settings: ChatSettings | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.witness = ChatWitness(self.replication_factor)
        self.chat_settings = chat_settings or ChatSettings()
        self.chats: dict[Uid, Chat] = {}
        self._links: dict[Uid, list[SimLink]] = {}

    async def start(
        self,
        uid: Uid,
        *,
        found: bool = False,
        settings: ReplicationSettings | None = None,
        was_away: bool = False,
    ) -> Process:
        """Start a node, and its chat."""
        process = await super().start(uid, found=found, settings=settings, was_away=was_away)
        self.chats[uid] = chat_of(process, self.replication_factor, self.slots, self.chat_settings)
        return process

    async def crash(self, uid: Uid, *, torn: bool | None = None) -> None:
        """Kill a process: its clients' connections break."""
        del self.chats[uid]
        for link in self._links.pop(uid, ()):
            self.network.later(RESET_NOTICED, link.broken)
        await super().crash(uid, torn=torn)

    def connect(self, uid: Uid) -> SimLink | None:
        """Connect a client to a node; None if nobody listens there."""
        if uid not in self.chats:
            return None
        link = SimLink(self.network, self.processes[uid], self.chats[uid])
        links = self._links.setdefault(uid, [])
        links[:] = [one for one in links if not one.over]
        links.append(link)
        return link
