"""What a node has heard on the multicast group: who is where, and whom it must not believe. Time is handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..config.settings import Address
from .packet import MAX_SKEW, Announcement, NotOurs, OtherSecret, OtherVersion, WrongTime, mac_of, unseal

FRESH = 20.0
"""Seconds for which a node that was heard is believed to be there: four announcements may be lost."""
REMIND = 60.0
"""Seconds between two log lines about the same trouble from the same address."""
STRANGERS_EVERY = 5.0
"""Seconds after which an address of another ring is offered again: its node is refused, and both sides say so."""
MAX_NODES = 1024
MAX_SEALS = 8192
MAX_TROUBLES = 64
"""Bounds of what is remembered; the oldest goes first."""
SHOWN = 5
"""How many addresses are named to people."""

OUTSIDERS = "nodes that have another secret"
VERSION = "nodes that speak another version of the announcements"
CLOCK = f"nodes whose clock differs by more than {MAX_SKEW:g} s"
RING = "nodes of another ring"


@dataclass
class _Seen:
    announcement: Announcement
    address: Address
    at: float
    offered: float = float("-inf")


@dataclass
class _Trouble:
    detail: str
    at: float
    logged: float


@dataclass(frozen=True)
class Heard:
    """What a datagram asks for: an announcement at once, or a warning in the log (empty: none is due)."""

    answer: bool = False
    warning: str = ""


class Hearing:
    """The nodes of this ring that were heard of late, and the others, whom it only reports.

    `uid` and `boot` are this node's own. `ring` tells the ring that this node belongs to or waits for (empty: any);
    when `only_this`, addresses of other rings are not offered.
    """

    def __init__(
        self, secret: Callable[[], bytes], uid: str, boot: str, ring: Callable[[], str], *, only_this: bool
    ) -> None:
        self._secret = secret
        self._own = (uid, boot)
        self._ring = ring
        self._only_this = only_this
        self._seen: dict[tuple[str, Address], _Seen] = {}
        self._seals: dict[bytes, float] = {}
        self._troubles: dict[tuple[str, str], _Trouble] = {}

    def hear(self, now: float, wall_ms: int, source: str, data: bytes) -> Heard:
        """Take a datagram from an address. `now` is monotonic, `wall_ms` the Unix time."""
        try:
            said = unseal(self._secret(), data, wall_ms)
        except NotOurs:
            return Heard()
        except OtherSecret:
            return self._trouble(now, OUTSIDERS, source)
        except OtherVersion:
            return self._trouble(now, VERSION, source)
        except WrongTime as error:
            detail = f"{abs(error.ahead):.0f} s {'ahead' if error.ahead > 0 else 'behind'}"
            return self._trouble(now, CLOCK, source, detail)
        if (said.uid, said.boot) == self._own or self._repeated(now, mac_of(data)):
            return Heard()
        address = Address(said.host or source, said.port)
        before = self._seen.pop((said.uid, address), None)
        self._seen[said.uid, address] = _Seen(said, address, now, before.offered if before else float("-inf"))
        if len(self._seen) > MAX_NODES:
            del self._seen[next(iter(self._seen))]
        ring = self._ring()
        if ring and said.ring_uid and said.ring_uid != ring:
            return self._trouble(now, RING, str(address), said.ring_uid, answer=said.asks)
        return Heard(answer=said.asks)

    def addresses(self, now: float) -> list[Address]:
        """Return where nodes of the ring are, the latest heard first.

        A node that is in no ring yet is of no help. One of another ring is offered now and then, for the two must learn
        of each other where both were founded by mistake.
        """
        ring, ours, strangers = self._ring(), [], []
        for seen in reversed(self._fresh(now)):
            theirs = seen.announcement.ring_uid
            if theirs and (not ring or theirs == ring):
                ours.append(seen.address)
            elif theirs and not self._only_this and now - seen.offered >= STRANGERS_EVERY:
                seen.offered = now
                strangers.append(seen.address)
        return list(dict.fromkeys([*ours, *strangers]))

    def lonely(self, now: float) -> bool:
        """Say whether no node of the ring was heard of late: it is time to ask."""
        ring = self._ring()
        rings = {seen.announcement.ring_uid for seen in self._fresh(now)} - {""}
        return ring not in rings if ring else not rings

    def remarks(self, now: float) -> list[str]:
        """Say for people what was heard that does not help."""
        found = []
        if (waiting := [one for one in self._fresh(now) if not one.announcement.ring_uid]) and self.lonely(now):
            who = _listed([one.announcement.name or str(one.address) for one in waiting])
            found.append(f"hears nodes that wait for a ring too ({who})")
        for kind in (OUTSIDERS, CLOCK, VERSION, RING):
            of_kind = {source: one for (what, source), one in self._troubles.items() if what == kind}
            lately = [_with(source, one.detail) for source, one in of_kind.items() if now - one.at < FRESH]
            if lately:
                found.append(f"hears {kind} (from {_listed(lately)})")
        return found

    def _fresh(self, now: float) -> list[_Seen]:
        return [one for one in self._seen.values() if now - one.at < FRESH]

    def _repeated(self, now: float, seal: bytes) -> bool:
        """Say whether this very datagram came before, by another way or from somebody who recorded it."""
        if seal in self._seals:
            return True
        self._seals[seal] = now
        while len(self._seals) > MAX_SEALS or now - next(iter(self._seals.values())) > 2 * MAX_SKEW:
            del self._seals[next(iter(self._seals))]
        return False

    def _trouble(self, now: float, kind: str, source: str, detail: str = "", *, answer: bool = False) -> Heard:
        before = self._troubles.pop((kind, source), None)
        due = before is None or now - before.logged >= REMIND
        self._troubles[kind, source] = _Trouble(detail, now, now if due or before is None else before.logged)
        if len(self._troubles) > MAX_TROUBLES:
            del self._troubles[next(iter(self._troubles))]
        return Heard(answer, f"hears {kind} (from {_with(source, detail)})" if due else "")


def _with(source: str, detail: str) -> str:
    return f"{source}: {detail}" if detail else source


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(sorted(texts)[:SHOWN]) + more
