"""The client's side of a node: chat and the client API, put together over a replica."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coterie_protocol.admin import MessageCounts

from ..api.client import ClientApi
from ..api.passwords import PasswordPool
from ..api.walk import address
from ..chat.gateway.conversation import NodeFacts
from ..chat.gateway.logins import Passwords
from ..chat.service import Chat, ChatCounts
from ..chat.settings import ChatSettings
from ..http.listening import room_for

if TYPE_CHECKING:
    from aiohttp import web

    from coterie_protocol.nodes import NodeRef

    from ..bootstrap.identity import Membership
    from ..config.settings import NodeConfig
    from ..http.guard import PortLimits
    from ..peer.links import Links
    from ..runtime.dispatch import Dispatcher, TaskGroup
    from ..runtime.ports import Clock, Store
    from .replica import Replica

FINISH_SECONDS = 5.0
"""How long a draining node waits for the results of messages that it has taken."""
CLOSE_SECONDS = 2.0
"""How long clients have to take what is queued for them."""


class Edge:
    """What clients meet. Handlers are registered at once; `begin` starts the work that never ends."""

    def __init__(
        self,
        config: NodeConfig,
        membership: Membership,
        me: NodeRef,
        replica: Replica,
        store: Store,
        links: Links,
        dispatcher: Dispatcher,
        clock: Clock,
        tasks: TaskGroup,
        state: Callable[[], str],
    ) -> None:
        self._replica = replica
        self._passwords = PasswordPool(config.bcrypt_cost)
        settings = ChatSettings(
            pending_records=config.pending_records,
            pending_bytes=config.pending_bytes,
            archive_records=config.archive_records,
            archive_bytes=config.archive_bytes,
            sends_per_second=config.sends_per_second,
            logins_per_account=config.logins_per_account,
            logins_per_address=config.logins_per_address,
            connections=room_for(config.connections),
            connections_per_address=config.connections_per_address,
        )
        facts = NodeFacts(
            ring_uid=membership.ring_uid,
            node_uid=me.uid,
            node_name=me.name,
            replication_factor=membership.replication_factor,
            slots=membership.slots,
            state=state,
            servers=self._servers,
        )
        self._chat = Chat(
            table=replica.table,
            router=replica.router,
            accounts=replica.accounts,
            appender=replica.appender,
            repair=replica.repair,
            ages=replica.calendar,
            arrivals=replica.arrivals,
            store=store,
            peers=links,
            dispatcher=dispatcher,
            clock=clock,
            tasks=tasks,
            passwords=Passwords(self._passwords.hash, self._passwords.check),
            facts=facts,
            settings=settings,
        )
        self._api = ClientApi(self._chat.gateway, config.allowed_origin)

    @property
    def app(self) -> web.Application:
        """Return the application of the client port."""
        return self._api.app

    @property
    def limits(self) -> PortLimits:
        """Return how many connections the client port takes."""
        return self._api.limits

    def sessions(self) -> int:
        """Return how many sessions this node is the gateway of."""
        return self._chat.sessions

    def counts(self) -> ChatCounts:
        """Return what chat has done since the start."""
        return self._chat.counts()

    def messages(self) -> MessageCounts:
        """Return what became of messages since the start."""
        counts = self._chat.counts()
        return MessageCounts(counts.accepted, counts.stored, counts.delays.number)

    def begin(self) -> None:
        """Begin to renew sessions and to forget those that are not renewed."""
        self._chat.start()

    async def drain(self) -> None:
        """Tell clients to go elsewhere, and finish what was taken from them."""
        self._api.drain()
        await self._chat.finish(FINISH_SECONDS)
        await self._api.close(CLOSE_SECONDS)

    def close(self) -> None:
        """Stop the password workers."""
        self._passwords.close()

    def _servers(self) -> list[str]:
        near = [*self._replica.driver.successors(), self._replica.driver.predecessor()]
        return [f"ws://{address(ref, ref.client_port)}" for ref in near if ref is not None and ref.host]
