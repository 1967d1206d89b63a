"""Zave's inductive invariant, kept up step by step.

A *principal* is a member that no member skips: it lies strictly between no two adjacent entries of any member's
extended successor list (the node itself and its list). The invariant is

- every member has a live successor in its list (unless it is a circle of its own), and the list is in order;
- there are at least min(r + 1, N') principals, N' being the members of longer standing: one that has only just joined
  is skipped by its predecessor until that one stabilizes.

Zave's steps read another node and change their own in one go. Here an answer travels for a while, so a list may skip
a node that became a principal while the answer was under way; but once a node has been a principal for as long as any
answer travels, nobody may ever skip it again as long as it stays. That is asserted at every step; it is more than
having enough principals.

From it follow one ordered cycle that every member reaches, which `whole` checks for itself. The invariant is about
the network in which a node has joined; a node that forms a circle of its own is another network, until it joins one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable

from tests.sim.ring.spans import Span, Spans

from coterie_protocol.nodes import NodeRef

List = tuple[NodeRef, ...]


class Invariant:
    """The invariant over all networks of a simulation. Its methods raise AssertionError."""

    def __init__(self, slots: int, length: int, travel: float, standing: float) -> None:
        self.now = 0.0
        self.strict = True
        """False while whole networks are given up for others: then only the order of lists is asserted."""
        self.isolated = 0
        """How many nodes lost every successor although their network lived on."""
        self._slots = slots
        self._length = length
        self._travel = travel
        self._standing = standing
        self._since: dict[str, float] = {}
        self._principal_since: dict[str, float] = {}
        self._network: dict[str, int] = {}
        self._networks = 0
        self._left: dict[str, int] = {}
        self._entering: dict[str, int] = {}
        self._places: list[tuple[int, str]] = []
        self._refs: dict[str, NodeRef] = {}
        self._lists: dict[str, List] = {}
        self._holders: dict[str, set[str]] = {}
        self._spans: dict[int, Spans] = {}
        """By network: what lies between adjacent entries of its members' extended lists."""
        self._skipped: Counter[str] = Counter()
        self._sizes: Counter[int] = Counter()
        self._principals: Counter[int] = Counter()

    # --- what happens ---

    def joined(self, uid: str, through: str) -> None:
        """Note that a node has entered the network of another, or formed one (`through` is itself)."""
        old = self._network.get(uid)
        if through == uid:
            self._networks += 1
            network = self._networks
            if old is not None and self._sizes[old] > self._length:
                self.isolated += 1
        else:
            # Whoever was joined may have crashed since it answered.
            network = self._network.get(through, self._left.get(through, 0))
        if old == network:
            return
        self.crashed(uid)
        self._entering[uid] = network

    def changed(self, me: NodeRef, successors: List) -> None:
        """Take a node's pointers as they are now."""
        uid = me.uid
        network = self._entering.pop(uid, None)
        held = self._refs.get(uid)
        if network is not None or (held is not None and held.position != me.position):
            network = self._network[uid] if network is None else network
            self.crashed(uid)
            self._enter(me, network)
        if uid not in self._network:
            return
        self._refs[uid] = me
        self._in_order(me, successors)
        self._set_list(uid, successors)
        self._check(uid)

    def crashed(self, uid: str) -> None:
        """Take a node away."""
        self._entering.pop(uid, None)
        network = self._network.get(uid)
        if network is None:
            return
        self._set_list(uid, ())
        del self._lists[uid]
        if not self._skipped[uid]:
            self._principals[network] -= 1
        self._principal_since.pop(uid, None)
        del self._skipped[uid]
        del self._places[bisect_left(self._places, (self._refs.pop(uid).position, uid))]
        self._left[uid] = self._network.pop(uid)
        self._sizes[network] -= 1
        for holder in list(self._holders.get(uid, ())):
            self._check(holder)

    def settled(self) -> None:
        """Count all nodes as one network from here on: after a merge, once the pointers are perfect."""
        self.strict = False
        refs, lists = list(self._refs.values()), dict(self._lists)
        for ref in refs:
            self.crashed(ref.uid)
        self._networks += 1
        for ref in refs:
            self._enter(ref, self._networks)
        for uid, successors in lists.items():
            self._set_list(uid, successors)
        self.strict = True
        for uid in lists:
            self._check(uid)

    def owner(self, slot: int) -> str:
        """Return the uid of the node that owns a slot in the largest network."""
        network = max(self._sizes, key=self._sizes.__getitem__)
        first = bisect_left(self._places, (slot, ""))
        for step in range(len(self._places)):
            _, uid = self._places[(first + step) % len(self._places)]
            if self._network[uid] == network:
                return uid
        raise AssertionError("no node is in a network")

    # --- the checks ---

    def whole(self) -> None:
        """Assert everything anew, from nothing but the nodes' pointers."""
        skipped: Counter[str] = Counter()
        by_network: dict[int, list[tuple[int, str]]] = {}
        for place in self._places:
            by_network.setdefault(self._network[place[1]], []).append(place)
        for uid, successors in self._lists.items():
            skipped.update(_between(by_network[self._network[uid]], self._spans_of(uid, successors)))
            self._in_order(self._refs[uid], successors)
        for uid in self._network:
            assert skipped[uid] == self._skipped[uid], f"{self._name(uid)}: kept {self._skipped[uid]} skips wrongly"
        if self.strict:
            settled = Counter(
                label for uid, label in self._network.items() if self.now - self._since[uid] > self._standing
            )
            for network, size in self._sizes.items():
                need, principals = min(self._length + 1, settled[network]), self._principals[network]
                assert principals >= need, f"{principals} principals instead of {need}"
                if size > 1:
                    self._one_ordered_cycle(network)

    def _one_ordered_cycle(self, network: int) -> None:
        members = [uid for uid, label in self._network.items() if label == network]
        after: dict[str, str] = {}
        for uid in members:
            # A node alone is its own successor until the first that has joined it says so.
            heads = (ref.uid for ref in self._lists[uid] if self._live(uid, ref))
            after[uid] = next(heads, "") if self._lists[uid] else uid
            assert after[uid], f"{self._name(uid)} has no live successor"
        walked = members[0]
        for _ in members:
            walked = after[walked]
        cycle = [walked]
        while after[cycle[-1]] != walked:
            cycle.append(after[cycle[-1]])
        turn = sum((self._refs[after[uid]].position - self._refs[uid].position) % self._slots for uid in cycle)
        assert turn == (self._slots if len(cycle) > 1 else 0), f"the cycle goes round {turn / self._slots} times"
        reached = set(cycle)
        for uid in members:
            path = []
            while uid not in reached:
                path.append(uid)
                uid = after[uid]
                assert uid not in path, f"{self._name(uid)} does not reach the cycle"
            reached.update(path)

    def _check(self, uid: str) -> None:
        network = self._network.get(uid)
        if network is None or not self.strict:
            return
        size = self._sizes[network]
        if size > 1:
            live = any(self._live(uid, ref) for ref in self._lists[uid])
            # A node alone takes its first successor when that one, already joined, notifies it.
            assert live or not self._lists[uid], f"{self._name(uid)} has no live successor"

    def _in_order(self, me: NodeRef, successors: List) -> None:
        last = 0
        for ref in successors:
            far = (ref.position - me.position) % self._slots
            assert far > last, f"{me.name}: the list is not in order"
            assert ref.uid != me.uid, f"{me.name}: the list names its own node"
            last = far

    # --- keeping count ---

    def _live(self, uid: str, ref: NodeRef) -> bool:
        there = self._refs.get(ref.uid)
        same = self._network.get(ref.uid) == self._network.get(uid)
        return there is not None and same and there.position == ref.position

    def _enter(self, me: NodeRef, network: int) -> None:
        uid = me.uid
        self._network[uid] = network
        self._sizes[network] += 1
        self._refs[uid] = me
        self._lists[uid] = ()
        insort(self._places, (me.position, uid))
        spans = self._spans.get(network)
        skips = spans.around(me.position) if spans is not None else 0
        self._skipped[uid] = skips
        self._since[uid] = self.now
        if not skips:
            self._principal(uid)

    def _principal(self, uid: str) -> None:
        self._principals[self._network[uid]] += 1
        self._principal_since[uid] = self.now

    def _skip(self, uid: str, by: str) -> None:
        self._principals[self._network[uid]] -= 1
        lasted = self.now - self._principal_since.pop(uid)
        assert not self.strict or lasted <= self._travel, (
            f"{self._name(by)} skips {self._name(uid)}, a principal for {lasted:.3f} s"
        )

    def _set_list(self, uid: str, successors: List) -> None:
        old = self._lists[uid]
        if old == successors:
            return
        network = self._network[uid]
        spans = self._spans.setdefault(network, Spans(self._slots))
        before, after = set(self._spans_of(uid, old)), set(self._spans_of(uid, successors))
        change: Counter[str] = Counter()
        for gone in before - after:
            spans.add(gone, -1)
            change.subtract(name for name in _between(self._places, [gone]) if self._network[name] == network)
        for new in after - before:
            spans.add(new)
            change.update(name for name in _between(self._places, [new]) if self._network[name] == network)
        for name, count in change.items():
            was = self._skipped[name]
            self._skipped[name] = was + count
            if not was and count:
                self._skip(name, uid)
            elif was and not was + count:
                self._principal(name)
        for ref in old:
            self._holders[ref.uid].discard(uid)
        for ref in successors:
            self._holders.setdefault(ref.uid, set()).add(uid)
        self._lists[uid] = successors

    def _spans_of(self, uid: str, successors: List) -> list[Span]:
        """Return the spans between adjacent entries of a node's extended list: who stands there is skipped."""
        here = self._refs[uid].position
        found = []
        for ref in successors:
            found.append((here, ref.position))
            here = ref.position
        return found

    def _name(self, uid: str) -> str:
        ref = self._refs.get(uid)
        return ref.name if ref is not None else uid


def _between(places: list[tuple[int, str]], spans: Iterable[Span]) -> list[str]:
    """Return who stands in these spans, from places in order."""
    found: list[str] = []
    for start, end in spans:
        first, last = bisect_right(places, (start, "~")), bisect_left(places, (end, ""))
        if start >= end:
            found += [uid for _, uid in places[first:]]
            first = 0
        if first < last:
            found += [uid for _, uid in places[first:last]]
    return found
