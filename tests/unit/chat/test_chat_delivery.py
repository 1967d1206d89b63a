"""A drain leaves nothing out, whatever comes while it begins."""

from __future__ import annotations

import asyncio

from tests.unit.replication.nodes import SLOT, A, B, C, D, Node, Nodes, known, message, patient, simulated, until

from coterie_node.chat.owner.delivery import Delivery
from coterie_node.chat.settings import ChatSettings
from coterie_node.replication.expiry.slot_clock import Calendar
from coterie_node.replication.settings import ReplicationSettings
from coterie_node.runtime.messenger import Courier
from coterie_protocol.chat import Deliver, Push
from coterie_protocol.identifiers import Uid


def subscribed(node: Node) -> list[Push]:
    """Subscribe to a mailbox at a node, which is the gateway too; what it pushes is put into the list."""
    pushed: list[Push] = []

    def deliver(sender: Uid, event: Deliver) -> None:
        pushed.extend(event.pushes)

    node.dispatcher.on_event(Deliver, deliver)
    ages = Calendar(node.table, node.peers, node.dispatcher, node.clock, ReplicationSettings())
    courier = Courier(node.peers, node.dispatcher)
    delivery = Delivery(node.disk, node.repair, node.arrivals, courier, ages, node.clock, node.tasks, ChatSettings())
    delivery.subscribe("ann", SLOT, 1, node.peers.me, 1)
    return pushed


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
        pushed = subscribed(node)
        await until(lambda: any(push.drained for push in pushed), 20.0)
        assert {item.id for push in pushed for item in push.items} == {old.id, newer.id}
        await asyncio.sleep(1.0)
        assert len([item for push in pushed for item in push.items]) == 2


@simulated
async def test_a_drain_is_told_again_when_it_is_certain() -> None:
    """A and D, which stands in, acknowledge while B and C are away, and then go themselves."""
    async with Nodes(A, B, C, D, settings=patient(repair_interval=1e6)) as nodes:
        await nodes.configure(known(3, (A, B, C)))
        nodes.network.partition({A, D}, {B, C})
        await until(lambda: not nodes[B].peers.alive(A) and not nodes[B].peers.alive(D), 5.0)
        nodes[A].ring.next = [D]
        await nodes[A].appender.append_one(message(1))
        pushed = subscribed(nodes[B])
        await until(lambda: any(push.drained for push in pushed), 20.0)
        await asyncio.sleep(10.0)
        assert [(push.items, push.certain) for push in pushed] == [([], False)]
        nodes.network.heal()
        await until(lambda: any(push.drained and push.certain for push in pushed), 10.0)
        assert [item.id for push in pushed for item in push.items] == [message(1).id]
