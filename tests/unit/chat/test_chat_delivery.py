"""A drain leaves nothing out, whatever comes while it begins."""

from __future__ import annotations

import asyncio

from tests.unit.replication.nodes import SLOT, A, B, C, Nodes, known, message, patient, simulated, until

from coterie_node.chat.courier import Courier
from coterie_node.chat.delivery import Delivery
from coterie_node.chat.settings import ChatSettings
from coterie_node.replication.calendar import Calendar
from coterie_node.replication.settings import ReplicationSettings
from coterie_protocol.chat import Deliver, Push
from coterie_protocol.identifiers import Uid


@simulated
async def test_what_repair_brings_does_not_hide_what_was_here_before() -> None:
    """A member returns with an old message on its disk, is subscribed to at once, and learns of a newer one."""
    old, newer = message(1), message(2, at=1000)
    async with Nodes(A, B, C, settings=patient(repair_interval=1e6)) as nodes:
        await nodes.configure(known(3, (A, B, C)))
        await nodes[A].put(old)
        await nodes[B].put(newer)
        await nodes.stop(A)
        await nodes.stop(C)
        node = await nodes.start(A)
        pushed: list[Push] = []

        def deliver(sender: Uid, event: Deliver) -> None:
            pushed.extend(event.pushes)

        node.dispatcher.on_event(Deliver, deliver)
        ages = Calendar(node.table, node.peers, node.dispatcher, node.clock, ReplicationSettings())
        courier = Courier(node.peers, node.dispatcher)
        delivery = Delivery(
            node.disk, node.repair, node.arrivals, courier, ages, node.clock, node.tasks, ChatSettings()
        )
        delivery.subscribe("ann", SLOT, 1, A, 1)
        await until(lambda: any(push.drained for push in pushed), 20.0)
        assert {item.id for push in pushed for item in push.items} == {old.id, newer.id}
        await asyncio.sleep(1.0)
        assert len([item for push in pushed for item in push.items]) == 2
