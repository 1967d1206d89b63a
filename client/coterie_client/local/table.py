"""The ring as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coterie_protocol.words import counted, listed

if TYPE_CHECKING:
    from coterie_protocol.admin import Member, RingReport

_HEADINGS = ("NAME", "POSITION", "ARC", "SLOTS users", "backups", "held", "RECORDS users", "backups", "held", "STATE")


def ring_lines(ring: RingReport) -> list[str]:
    """Return the table's lines: the members by position, then how the ring is."""
    members = sorted(ring.members, key=lambda member: (member.position, member.name))
    return [*_columns([_HEADINGS, *(_row(member) for member in members)]), summary(ring), *_advice(ring)]


def summary(ring: RingReport) -> str:
    """Say in one line how the ring is."""
    ready = sum(member.state == "ready" for member in ring.members)
    copies = counted(ring.replication_factor, "copy", "copies")
    parts = [f"{ready} of {len(ring.members)} ready", f"{copies} of each of {counted(ring.slots, 'slot')}"]
    if lost := without_quorum(ring):
        parts.append(f"{counted(lost, 'slot')} without a majority")
    if ring.slots_forming:
        parts.append(f"{counted(ring.slots_forming, 'slot')} still forming")
    parts.append(f"{ring.slots_under_replicated} under-replicated" if ring.slots_under_replicated else "all replicated")
    return ", ".join(parts)


def without_quorum(ring: RingReport) -> int:
    """Return how many slots have no majority; a node of an older release knows only of those without an owner."""
    return max(ring.slots_without_quorum, ring.slots_unowned)


def _advice(ring: RingReport) -> list[str]:
    lost = without_quorum(ring)
    if not lost:
        return []
    away = sorted(member.name or member.uid[:8] for member in ring.members if member.state == "unreachable")
    back = f"bring back {listed(away)}" if away else "bring back the nodes that are missing"
    return [f"{counted(lost, 'slot has', 'slots have')} no majority, and no account there can be used; {back}"]


def _row(member: Member) -> tuple[str, ...]:
    if member.state == "unreachable":
        return (member.name or member.uid[:8], _position(member), "-", "-", "-", "-", "-", "-", "-", member.state)
    return (
        member.name or member.uid[:8],
        _position(member),
        f"{member.arc_share:.1%}",
        *(str(n) for n in (member.slots.users, member.slots.backups, member.slots.held)),
        *(str(n) for n in (member.records.users, member.records.backups, member.records.held)),
        member.state,
    )


def _position(member: Member) -> str:
    return f"{member.position} ({member.position_ratio:.3f})" if member.position >= 0 else "-"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    numbers = range(2, len(widths) - 1)
    return [
        "  ".join(
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
