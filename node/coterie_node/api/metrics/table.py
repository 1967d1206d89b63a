"""Every metric of a node: its name, its labels, what it says and what a high value means.

Names are a promise: dashboards and alerts of people rest on them. Labels must be bounded, by the values listed here or
by what the sentence says. No metric carries a user's name, an address, or anything of a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from coterie_node.ring.changes import CHANGES

from .family import Family, Kind, Rows, Value
from .sources import KINDS, ROLES, Holdings, Parts, Sources, round_trips

STATES = ("forming", "joining", "syncing", "ready", "leaving", "left")
PHASES = ("joining", "syncing", "settling")
GAUGE, COUNTER, HISTOGRAM = Kind.GAUGE, Kind.COUNTER, Kind.HISTOGRAM


def _ringed(read: Callable[[Parts], Value]) -> Callable[[Sources], Value]:
    """Read from the rooms that exist once the node belongs to a ring."""
    return lambda sources: None if sources.parts is None else read(sources.parts)


def _held(read: Callable[[Holdings], Value]) -> Callable[[Sources], Value]:
    return lambda sources: None if sources.holdings is None else read(sources.holdings)


def _under_replicated(sources: Sources) -> Value:
    parts, held = sources.parts, sources.holdings
    return None if parts is None or held is None else len(parts.repair.under_replicated(held.acting.slots))


def _by(values: Iterable[str], read: Callable[[str], float]) -> Rows:
    return [((value,), read(value)) for value in values]


def _info(sources: Sources) -> Value:
    me, parts = sources.me(), sources.parts
    return [((me.name, me.uid, "" if parts is None else parts.ring_uid, sources.version), 1)]


def _state(sources: Sources) -> Value:
    now = sources.state()
    return _by(STATES, lambda state: state == now)


def _position(sources: Sources) -> Value:
    me, parts = sources.me(), sources.parts
    return None if parts is None or me.position < 0 else me.position / parts.table.slots


def _free(sources: Sources) -> Value:
    try:
        return sources.store.free_bytes()
    except OSError:
        return None


def _failures(sources: Sources) -> Value:
    return None if sources.links is None else sources.links.failures


def _links(sources: Sources) -> Value:
    return None if sources.links is None else len(sources.links.linked())


def _messages(parts: Parts) -> Value:
    counts = parts.chat()
    numbers = {
        "accepted": counts.accepted,
        "stored": counts.stored,
        "delivered": counts.delays.number,
        "expired": parts.ageing.expired,
    }
    return _by(numbers, numbers.__getitem__)


def _logins(parts: Parts) -> Value:
    counts = parts.chat().logins
    numbers = {
        "registered": counts.registered,
        "granted": counts.granted,
        "refused": counts.refused,
        "limited": counts.limited,
    }
    return _by(numbers, numbers.__getitem__)


def _repaired(parts: Parts) -> Value:
    comparison, offers = parts.repair.comparison, parts.offers
    numbers = {
        "in": comparison.records_pulled + offers.records_taken,
        "out": comparison.records_served + offers.records_given,
    }
    return _by(numbers, numbers.__getitem__)


NODE = (
    Family(
        "coterie_node_info", GAUGE,
        "Always 1: who this node is, to be joined to its other metrics by `instance`.",
        "two series of one uid are one node scraped twice, or a copied data directory.",
        _info,
        {
            "name": "the node's own name: one a node",
            "uid": "the node's uid: one a node, another one after its disk was lost",
            "ring_uid": "the ring's uid, empty until the node belongs to one",
            "version": "the program's version",
        },
    ),
    Family(
        "coterie_node_state", GAUGE,
        "1 for the state in which the node is, 0 for the others.",
        "anything but ready for minutes needs a look; /readyz says what the node waits for.",
        _state,
        {"state": STATES},
    ),
)  # fmt: skip

RING = (
    Family(
        "coterie_node_position_ratio", GAUGE,
        "Where the node stands on the circle, 0 to 1; absent until it has a place.",
        "nothing: it is an angle.",
        _position,
    ),
    Family(
        "coterie_arc_share_ratio", GAUGE,
        "The part of the circle that the node owns, 0 to 1; over the nodes of one circle it sums up to 1.",
        "far above 1/N the node carries more than its share: rebalance. A sum near 2 is a ring split into two circles.",
        _ringed(lambda parts: parts.ring.arc_share),
    ),
    Family(
        "coterie_node_successor_info", GAUGE,
        "1 for each entry of the node's successor list.",
        "nothing: it draws the circle's edges. Fewer entries than before: a node is gone.",
        _ringed(lambda parts: [((str(n), ref.uid), 1) for n, ref in enumerate(parts.ring.successors(), 1)]),
        {"rank": "1 for the nearest, up to the length of the successor list (4, or the replication factor)",
         "uid": "the successor's uid: one a rank"},
    ),
    Family(
        "coterie_ring_members", GAUGE,
        "Nodes in this node's circle: exact in a small ring, else estimated from how densely its neighbours stand.",
        "nodes that see different numbers for minutes are in different circles.",
        _ringed(lambda parts: parts.ring.size),
    ),
    Family(
        "coterie_ring_changes_total", COUNTER,
        "Nodes that joined, left, failed or moved in this node's sight (its successor list).",
        "a ring that changes all the time has flapping nodes or links, and copies data around.",
        _ringed(lambda parts: _by(CHANGES, lambda change: parts.ring.changes.get(change, 0))),
        {"change": CHANGES},
    ),
    Family(
        "coterie_lookup_hops", HISTOGRAM,
        "Nodes that a lookup of a slot's owner had to ask, those for the node's own fingers included.",
        "above log2 of the number of nodes: fingers are stale, or silent nodes are gone round.",
        _ringed(lambda parts: parts.ring.lookups.hops),
    ),
    Family(
        "coterie_lookup_seconds", HISTOGRAM,
        "How long a lookup of a slot's owner took.",
        "slow or silent nodes on the way; each of these costs a time-out.",
        _ringed(lambda parts: parts.ring.lookups.seconds),
    ),
    Family(
        "coterie_lookups_failed_total", COUNTER,
        "Lookups for which nobody could tell the owner in time.",
        "the ring is split or healing, or nodes are unreachable.",
        _ringed(lambda parts: parts.ring.lookups.failed),
    ),
    Family(
        "coterie_peer_links", GAUGE,
        "Links to other nodes that stand.",
        "nothing: a node keeps links to its neighbours and to whom it works with. 0 in a ring: the node is cut off.",
        _links,
    ),
    Family(
        "coterie_peer_rtt_seconds", GAUGE,
        "The last round trip to a near peer, measured every 5 s and waiting behind what is queued on the link.",
        "the network or one of the two nodes is slow; above heartbeats' 1 s the peer is given up.",
        _ringed(round_trips),
        {"peer": "the peer's name (its uid when it has none): live nodes among successors, predecessor and fingers"},
    ),
    Family(
        "coterie_peer_failures_total", COUNTER,
        "Links to peers that were lost: broken, silent, or ended by a peer that stopped.",
        "nodes die or the network drops; a rolling update ends each link once.",
        _failures,
    ),
)  # fmt: skip

DURABILITY = (
    Family(
        "coterie_slots", GAUGE,
        "Slots by role: users (this node acts for them), backups (it is another member), held (kept for the members).",
        "of users or backups, the node carries more than others; of held for minutes, the members cannot be reached.",
        _held(lambda held: _by(ROLES, held.slots.__getitem__)),
        {"role": ROLES},
    ),
    Family(
        "coterie_slots_under_replicated", GAUGE,
        "Slots that this node acts for and whose members are not all live and in sync.",
        "another failure may cost them their quorum; it falls by itself once nodes return or are replaced.",
        _under_replicated,
    ),
    Family(
        "coterie_slots_without_quorum", GAUGE,
        "Slots that this node acts for and whose members alive are no majority.",
        "their accounts answer unavailable now. Bring nodes back; if their disks are gone for good, see recover.",
        _held(lambda held: held.acting.without_quorum),
    ),
    Family(
        "coterie_handover_slots", GAUGE,
        "Slots that this node is handing over to other members just now, by phase.",
        "the ring is changing; for many minutes, a new member is slow or bandwidth is short.",
        _ringed(lambda parts: _by(PHASES, lambda phase: parts.handover.phases[phase])),
        {"phase": PHASES},
    ),
    Family(
        "coterie_handovers_total", COUNTER,
        "Hand-overs of a slot that this node has carried through.",
        "nodes join, leave or move; without a reason for it, they flap.",
        _ringed(lambda parts: parts.handover.completed),
    ),
    Family(
        "coterie_records", GAUGE,
        "Records on this node's disk by role of their slot and by kind (tombstones are expired or deleted messages).",
        "pending: recipients are away; archived: histories grow. Each record is on K nodes: sum users for the ring.",
        _held(lambda held: list(held.records.items())),
        {"role": ROLES, "kind": KINDS},
    ),
    Family(
        "coterie_repair_records_total", COUNTER,
        "Records copied from (in) and to (out) other nodes by repair and hand-over, not by the first storing.",
        "nodes were away or the ring changes; constantly in a still ring, members do not agree.",
        _ringed(_repaired),
        {"direction": ("in", "out")},
    ),
    Family(
        "coterie_append_unavailable_total", COUNTER,
        "Records that did not reach a majority of disks in time; their senders try again.",
        "too many members are down or slow: people wait for their messages to be stored.",
        _ringed(lambda parts: parts.appender.unavailable),
    ),
    Family(
        "coterie_register_conflicts_total", COUNTER,
        "Rounds for an account that found another proposer at work, or no quorum.",
        "one account is changed in many places at once, or slots have no quorum.",
        _ringed(lambda parts: parts.accounts.conflicts),
    ),
)  # fmt: skip

STORE = (
    Family(
        "coterie_store_bytes", GAUGE,
        "Bytes that the database and its log take on disk.",
        "near the disk's size: the node stops taking writes when it is full. A deleted record's space is reused.",
        lambda sources: sources.store.size_bytes(),
    ),
    Family(
        "coterie_store_free_bytes", GAUGE,
        "Bytes that the file system of the data directory still takes.",
        "good. Low: enlarge the disk or add nodes before it is full.",
        _free,
    ),
    Family(
        "coterie_store_healthy", GAUGE,
        "1 while the last write went well, 0 while the store cannot write.",
        "good. 0: the disk is full, failing or damaged; the log says which.",
        lambda sources: sources.store.healthy,
    ),
    Family(
        "coterie_store_failures_total", COUNTER,
        "Commits that failed because of the disk.",
        "the disk is full or failing: whatever they carried was refused, nothing acknowledged is lost.",
        lambda sources: sources.store.stats.failures,
    ),
    Family(
        "coterie_store_damaged_total", COUNTER,
        "Findings of damaged rows (they fail their checksum) on this node's disk.",
        "the disk or memory flips bits: repair fetches what it can from other members. Replace the disk.",
        lambda sources: sources.store.stats.damaged,
    ),
    Family(
        "coterie_commit_seconds", HISTOGRAM,
        "How long a transaction took, its fsync included; all messages wait for one.",
        "a slow or shared disk: below 5 ms is usual, above 100 ms people notice.",
        lambda sources: sources.store.stats.commit_seconds,
    ),
    Family(
        "coterie_commit_batch_records", HISTOGRAM,
        "Records that shared one transaction, of those that wrote any.",
        "good under load: one fsync serves many. With slow commits, the disk is the bottleneck.",
        lambda sources: sources.store.stats.batch_records,
    ),
)  # fmt: skip

CLIENTS = (
    Family(
        "coterie_messages_total", COUNTER,
        "Messages: accepted from clients and stored on a majority (counted by the sender's node), delivered and"
        " expired (by the node that acts for the recipient).",
        "more accepted than stored: slots have no quorum. Expired: recipients stayed away for the whole message TTL.",
        _ringed(_messages),
        {"event": ("accepted", "stored", "delivered", "expired")},
    ),
    Family(
        "coterie_messages_pending", GAUGE,
        "Messages that wait for their recipients in the slots that this node acts for (sum it over the ring), senders'"
        " own copies on their way to the archive included.",
        "recipients are away or cannot be reached; it falls as soon as they connect.",
        _held(lambda held: held.records["users", "pending"]),
    ),
    Family(
        "coterie_delivery_seconds", HISTOGRAM,
        "From the storing of a message until its recipient's client had saved it and said so.",
        "of those online, seconds mean slow nodes or networks; hours and days are recipients who were away.",
        _ringed(lambda parts: parts.chat().delays),
    ),
    Family(
        "coterie_sessions", GAUGE,
        "Sessions of clients that are connected to this node.",
        "the node serves more clients than others: spread them by the Service or COTERIE_SERVERS.",
        _ringed(lambda parts: parts.sessions()),
    ),
    Family(
        "coterie_logins_total", COUNTER,
        "Ends of logins at this node: an account registered, a session granted, a wrong password refused, too many"
        " attempts limited.",
        "refused or limited: somebody guesses passwords. Granted: clients lose their sessions.",
        _ringed(_logins),
        {"result": ("registered", "granted", "refused", "limited")},
    ),
)  # fmt: skip

GROUPS: dict[str, tuple[Family, ...]] = {
    "The node": NODE,
    "The ring": RING,
    "Durability": DURABILITY,
    "The store": STORE,
    "Messages and clients": CLIENTS,
}
FAMILIES = tuple(family for group in GROUPS.values() for family in group)
