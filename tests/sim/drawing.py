"""A world as a drawing, for scenario files: its nodes, its slots with their members and copies, its people.

n1      up            or `down`, `frozen`; and what is wrong with its disk
slot 0  P3{n1,n2,n3}  n1 2p 1a  n2 ...     the newest chosen configuration; accounts (n), pending (p) and archived (a)
                                           records of all who hold any, and `away from` those who are no members
ann/2   at n1  stored 3 of 3, shown 5      the newest session, and where it is; whether it waits, and for what
ann     register at n1: granted            what was asked for and has, or has no, answer
"""

from __future__ import annotations

from collections import Counter

from tests.sim.invariants import short
from tests.sim.people import People, Person
from tests.sim.world import World

from coterie_protocol.identifiers import Uid
from coterie_protocol.records import State

LETTERS = {State.PENDING: "p", State.EXPIRED: "e", State.ARCHIVED: "a", State.DELETED: "d"}


def drawing(world: World, people: People | None) -> list[str]:
    """Draw a world."""
    lines = [_node(world, uid) for uid in sorted(world.disks)]
    lines += [_slot(world, slot) for slot in range(world.slots)]
    for _, person in sorted(people.persons.items()) if people is not None else ():
        lines += _person(person)
    return lines


def _node(world: World, uid: Uid) -> str:
    state = "down" if uid not in world.processes else "frozen" if world.network.frozen(uid) else "up"
    disk = world.disks[uid]
    return f"{uid:7} {state}" + (", disk full" if disk.full else "")


def _slot(world: World, slot: int) -> str:
    history = world.witness.slots.get(slot)
    newest = None if history is None else history.newest()
    parts = [f"slot {slot:<2} {'nothing chosen' if newest is None else short(newest.config)}"]
    for uid in sorted(world.disks):
        counts: Counter[str] = Counter()
        counts["n"] = sum(1 for at, of, _ in world.witness.accounts if (at, of) == (uid, slot))
        for key, held in world.witness.copies.items():
            if key.slot == slot and uid in held:
                counts[LETTERS[State(held[uid].state)]] += 1
        if counted := " ".join(f"{count}{letter}" for letter, count in counts.items() if count):
            parts.append(f"{uid} {counted}")
    return "  ".join(parts)


def _person(person: Person) -> list[str]:
    lines = []
    device = person.device
    if device is not None:
        where = "nowhere" if device.link is None else f"at {device.link.uid}"
        line = f"{person.name}/{device.epoch:<5} {where}  stored {person.stored} of {person.written}"
        line += f", refused {person.refused}" if person.refused else ""
        line += f", shown {person.seen}"
        line += f"  {device.refused.name}" if device.refused is not None else ""
        lines.append(line)
    return [*lines, *(f"{person.name:7} {asked}" for asked in person.asked)]
