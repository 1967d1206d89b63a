"""Slots about which a node lied among others of a proposer's batch: the others are decided as ever."""

from __future__ import annotations

from functools import partial

from tests.unit.replication.nodes import SLOTS, A, B, C, Nodes, known, simulated

from coterie_node.replication.consensus.proposer import Proposer
from coterie_node.runtime.ports import Tx
from coterie_protocol.bounds import MAX_COUNT
from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import Ballot, Config, KnownConfig, SlotRegister

MOST = MAX_COUNT - 1


def lied(tx: Tx, held: KnownConfig) -> None:
    tx.put_slot_register(held.slot, SlotRegister(Ballot(MOST, "liar"), held.ballot, held.config))


@simulated
async def test_a_slot_at_its_last_ballot_or_epoch_blocks_no_other_slot() -> None:
    async with Nodes(A, B, C, loops=False) as nodes:
        last = KnownConfig(1, Ballot(9, "liar"), Config(MOST, Ballot(9, "liar"), (), (A, B, C)))
        configs = {slot: known(1, (A, B, C), slot=slot) for slot in range(SLOTS)} | {1: last}
        for config in configs.values():
            await nodes.configure(config)
        for uid in (B, C):
            await nodes[uid].disk.transact(partial(lied, held=configs[0]))
        node = nodes[A]
        proposer = Proposer("p", node.table, node.peers, node.members, 1.0)
        wishes: dict[int, tuple[Uid, ...]] = dict.fromkeys(range(SLOTS), (C, B, A))
        await proposer.join(wishes)
        # By now it has heard of both.
        assert set(await proposer.join(wishes)) == set(range(SLOTS)) - {0, 1}
