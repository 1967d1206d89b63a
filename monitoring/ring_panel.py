"""The ring as a ring: what Grafana's node graph takes, made from Prometheus' answers.

The node graph wants a frame of nodes with the fields id, title, subtitle, mainstat, secondarystat, fixedx, fixedy,
arc__* and detail__*, and a frame of edges with id, source, target. It looks at a field's name and not at what people
rename it to, so the usual "organize fields" does nothing for it. Here the names are real from the start: numbers carry
theirs as the label `field`, which "join by labels" makes into columns; texts are labels, which a table makes into
columns. "Merge" puts the two together by `id`. Each node must have both coordinates, else Grafana places them itself.
"""

from __future__ import annotations

from .queries import HEALTHS, PLACED, POSITION, RING, SHARE, health, last, of, on_disk

EDGES = "edges"
TEXTS = "texts"
SUCCESSORS = 4
"""As many as hover shows: the length of a successor list, unless the replication factor is larger."""
_COUNT = f"count({PLACED})"
RADIUS = f"scalar(clamp(15 * {_COUNT}, 200, 600))"
"""Of the circle in pixels: a ring of 13 fits into the panel at zoom 1, a larger one after some zooming out."""
NODE_RADIUS = f"scalar(clamp(1600 / {_COUNT}, 8, 40))"
"""Of a node in pixels: 40 is Grafana's own; smaller from 41 nodes on, lest neighbours of an even ring touch."""

_JOB = "on (job, instance)"


def _each(expression: str) -> str:
    """Multiply with the placed nodes, which gives their uid."""
    return f"{expression} * {_JOB} group_left (uid) ({PLACED} > bool 0)"


def _column(name: str, expression: str) -> str:
    by_id = f'max by (id) (label_replace({expression}, "id", "$1", "uid", "(.*)"))'
    return f'label_replace({by_id}, "field", "{name}", "", "")'


def _arcs() -> dict[str, str]:
    """A node's own circle: the part of the ring that it owns, and the rest, both in the colour of its health."""
    fields = {}
    for name in HEALTHS:
        inside = f"on (uid) group_left () max by (uid) ({health(name)})"
        fields[f"arc__{name}"] = f"({_each(SHARE)}) * {inside}"
        fields[f"arc__{name}_rest"] = f"(1 - ({_each(SHARE)})) * {inside}"
    return fields


def numbers() -> dict[str, str]:
    """Return the expression of each field that is a number.

    Position 0 is at the top and positions grow clockwise, as on a clock; a picture's y grows downwards.
    """
    angle = f"2 * pi() * ({_each(POSITION)})"
    records = on_disk(last(of("coterie_records")))
    fields = {
        "mainstat": f"100 * ({_each(SHARE)})",
        "secondarystat": _each(records),
        "fixedx": f"{RADIUS} * sin({angle})",
        "fixedy": f"-1 * {RADIUS} * cos({angle})",
        "noderadius": f"0 * ({_each(POSITION)}) + {NODE_RADIUS}",
        **_arcs(),
        "detail__position": f"round({_each(POSITION)}, 0.0001)",
        "detail__share": f"round({_each(SHARE)}, 0.0001)",
        "detail__records": _each(records),
    }
    return {name: _column(name, expression) for name, expression in fields.items()}


def texts() -> str:
    """Return the expression whose labels are the fields that are texts."""
    state = (
        f'(label_replace({of("coterie_node_state")} == 1, "subtitle", "$1", "state", "(.*)")'
        f' or {_JOB} label_replace({PLACED} == 1, "subtitle", "not scraped", "", ""))'
    )
    found = f"{PLACED} * {_JOB} group_left (subtitle) {state}"
    shown = ["id", "title", "subtitle", "detail__uid"]
    for rank in range(1, SUCCESSORS + 1):
        label = f"detail__successor_{rank}"
        named = f"{of('coterie_node_successor_info', rank=str(rank))} * on (uid) group_left (name) {_names()}"
        found += (
            f' * {_JOB} group_left ({label}) (label_replace({named}, "{label}", "$1", "name", "(.*)")'
            f" or {_JOB} {PLACED} * 0 + 1)"
        )
        shown.append(label)
    for label, source in (("id", "uid"), ("title", "name"), ("detail__uid", "uid")):
        found = f'label_replace({found}, "{label}", "$1", "{source}", "(.*)")'
    return f"group by ({', '.join(shown)}) ({found})"


def _names() -> str:
    """1 for each node's uid, with its name."""
    return f"group by (uid, name) ({RING})"


def edges() -> str:
    """Return the expression of the edges, from each node to its successor; both ends must be nodes of the picture."""
    sources = f'label_replace({PLACED} > bool 0, "source", "$1", "uid", "(.*)")'
    targets = f'label_replace({PLACED}, "target", "$1", "uid", "(.*)")'
    first = f'label_replace({of("coterie_node_successor_info", rank="1")}, "target", "$1", "uid", "(.*)")'
    found = f"{first} * {_JOB} group_left (source) {sources} and on (target) {targets}"
    return f'group by (id, source, target) (label_join({found}, "id", " > ", "source", "target"))'


def transformations() -> list[tuple[str, str, dict[str, object]]]:
    """Return what Grafana does with the answers: its name, the refIds that it is for ("" for all), its options."""
    columns = "|".join(numbers())
    away = ("Time", "Value", f"Value #{EDGES}", f"Value #{TEXTS}")
    return [
        ("joinByLabels", f"/^(?:{columns})$/", {"value": "field", "join": ["id"]}),
        # All but the edges: what has been joined has no refId in some versions of Grafana.
        ("merge", f"/^(?!{EDGES}$).*$/", {}),
        ("organize", "", {"excludeByName": dict.fromkeys(away, True), "indexByName": {}, "renameByName": {}}),
    ]
