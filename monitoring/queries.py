"""The PromQL that the panels share: whose series are meant, and which nodes there are.

`$namespace`, `$ring` and `$node` are the dashboard's variables. Names stand in no metric but coterie_node_info, so
everything is joined with it. A scrape without a `namespace` label matches too: "all" is `.*`, which fits an absent one.
"""

from __future__ import annotations

LOST = "10m"
"""How long a node that is no longer scraped stays in the picture: long enough to be looked for."""
_NAMESPACE = 'namespace=~"$namespace"'
_PLACE = "job, instance"
"""What the series of one scrape have in common."""


def of(metric: str, **labels: str) -> str:
    """Return the selector of a metric in the chosen namespaces; a value that begins with ~ is an expression."""
    wanted = [f'{label}=~"{value[1:]}"' if value[0] == "~" else f'{label}="{value}"' for label, value in labels.items()]
    return f"{metric}{{{', '.join([_NAMESPACE, *wanted])}}}"


RING = of("coterie_node_info", ring_uid="~$ring")
"""The nodes of the chosen ring that are scraped now."""
CHOSEN = of("coterie_node_info", ring_uid="~$ring", name="~$node")
"""Those of them that are chosen."""


def with_node(expression: str, *carried: str, nodes: str = CHOSEN) -> str:
    """Keep what belongs to these nodes, and give it labels of theirs."""
    return f"{expression} * on ({_PLACE}) group_left ({', '.join(carried)}) {nodes}"


def by_node(expression: str, nodes: str = CHOSEN) -> str:
    """Return one series for each node, called by its name; the expression has one for each.

    Like `total` it counts a node once that two jobs scrape.
    """
    return f"max by (name) ({with_node(expression, 'name', nodes=nodes)})"


def total(expression: str, *by: str, nodes: str = CHOSEN) -> str:
    """Return the sum over the nodes, by these labels; the expression has one series for each node and set of them."""
    grouped = f" by ({', '.join(by)})" if by else ""
    once = f"max by ({', '.join(['uid', *by])}) ({with_node(expression, 'uid', nodes=nodes)})"
    return f"sum{grouped} ({once})"


def most_over_mean(expression: str, nodes: str = CHOSEN) -> str:
    """Return how uneven the nodes are: 1 when all have the same."""
    once = f"max by (uid) ({with_node(expression, 'uid', nodes=nodes)})"
    return f"max({once}) / avg({once})"


def on_disk(selector: str) -> str:
    """Return each node's records, whatever their role and kind."""
    return f"sum by ({_PLACE}) ({selector})"


def rate(selector: str) -> str:
    """Return the increase a second of a counter, over what Grafana finds fit for the scrapes and the zoom."""
    return f"rate({selector}[$__rate_interval])"


def quantile(share: float, histogram: str, *by: str) -> str:
    """Return below what this share of a histogram's observations was, over the nodes."""
    buckets = with_node(rate(of(f"{histogram}_bucket")), *by)
    return f"histogram_quantile({share}, sum by ({', '.join(['le', *by])}) ({buckets}))"


def last(selector: str) -> str:
    """Return the newest value, of those too that are no longer scraped."""
    return f"last_over_time({selector}[{LOST}])"


def _known() -> str:
    """2 for a node that is scraped, 1 for one that was: once for each node, and for each place of a node."""
    either = f"2 * {RING} or {last(RING)}"
    return f"topk by ({_PLACE}) (1, topk by (uid) (1, {either}))"


def _departed() -> str:
    """Nodes that left as they should and stand nowhere now: nobody needs to look for them."""
    leaving = last(of("coterie_node_state", state="~leaving|left"))
    return f"({leaving} == 1 unless on ({_PLACE}) {of('coterie_node_position_ratio')})"


POSITION = last(of("coterie_node_position_ratio"))
SHARE = last(of("coterie_arc_share_ratio"))
PLACED = f"({_known()} unless on ({_PLACE}) {_departed()} and on ({_PLACE}) {POSITION})"
"""Nodes that have a place on the circle, lost ones too: 2 while they are scraped, else 1."""

_TROUBLED = f"({of('coterie_store_healthy')} == 0 or {of('coterie_slots_without_quorum')} > 0)"
_BUSY = f"({of('coterie_node_state', state='ready')} == 0 or {of('coterie_slots_under_replicated')} > 0)"
HEALTHS = ("ready", "busy", "trouble")


def level() -> str:
    """Return how bad it is with each placed node: 0 ready, 1 busy, 2 trouble.

    trouble: not scraped, a store that cannot write, or slots without a quorum; busy: not ready, or slots short of a
    copy.
    """
    troubled = f"({PLACED} == 1 or {PLACED} and on ({_PLACE}) {_TROUBLED})"
    busy = f"({PLACED} and on ({_PLACE}) {_BUSY})"
    return f"({troubled} * 0 + 2 or {busy} * 0 + 1 or {PLACED} * 0)"


def health(of_what: str) -> str:
    """Return, for each placed node, whether it is in this health: 1 or 0."""
    return f"({level()} == bool {HEALTHS.index(of_what)})"
