"""The ring panel drawn without Grafana: its queries asked, its transformations applied, its rules of drawing followed.

It fails where Grafana's node graph would show nothing or fall back to a layout of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from .frames import Cell, Frame, answered, transformed
from .listing import panels, queries
from .prometheus import Prometheus, Window

_COLORS = {
    "green": "#73bf69",
    "dark-green": "#2f5a2b",
    "orange": "#ff9830",
    "dark-orange": "#7a4614",
    "red": "#f2495c",
    "dark-red": "#7a1f2a",
}
_STYLE = (
    "svg{background:#181b1f;font-family:Inter,Helvetica,Arial,sans-serif}"
    ".t{fill:#ccccdc;text-anchor:middle}.d{fill:#8e8ea0}.c{fill:#111217}.e{stroke:#6e7687;fill:none}"
)


class NoRing(Exception):
    """What Prometheus answers is no picture; the text says what is missing."""


def frames(dashboard: Mapping[str, Any], prometheus: Prometheus, window: Window) -> tuple[Frame, Frame]:
    """Return the frames of nodes and of edges that the ring panel draws. Raises NoAnswer and NoRing."""
    made = shown(dashboard, ring_panel(dashboard), prometheus, window)
    nodes = [frame for frame in made if "id" in frame.fields and "source" not in frame.fields]
    edges = [frame for frame in made if "source" in frame.fields]
    if len(nodes) != 1 or not nodes[0].fields["id"]:
        raise NoRing("Prometheus has no node with a position: does it scrape a ring?")
    return nodes[0], edges[0] if edges else Frame("edges", {"id": [], "source": [], "target": []})


def shown(
    dashboard: Mapping[str, Any], panel: Mapping[str, Any], prometheus: Prometheus, window: Window
) -> list[Frame]:
    """Return the frames that a panel of instant queries is given to show. Raises NoAnswer."""
    asked = [query for query in queries(dashboard) if query.panel == panel["title"]]
    found = [(query.ref_id, query.table, prometheus.ask(query, window)) for query in asked]
    return transformed(answered(found), panel["transformations"])


def ring_panel(dashboard: Mapping[str, Any]) -> dict[str, Any]:
    """Return the panel that shows the ring."""
    return next(panel for _, panel in panels(dashboard) if panel["type"] == "nodeGraph")


def draw(dashboard: Mapping[str, Any], prometheus: Prometheus, window: Window) -> str:
    """Return the ring as an SVG. Raises NoAnswer and NoRing."""
    nodes, edges = frames(dashboard, prometheus, window)
    options = ring_panel(dashboard)["options"]["nodes"]
    colors = {arc["field"]: _COLORS[arc["color"]] for arc in options["arcs"]}
    rows = {str(row["id"]): row for row in nodes.rows()}
    for name, row in rows.items():
        for needed in ("fixedx", "fixedy", "noderadius", *colors):
            value = row.get(needed)
            if not isinstance(value, float) or not math.isfinite(value):
                raise NoRing(f"{name} has no {needed}: Grafana would not draw it where it stands")
    far = max(abs(_number(row, field)) for row in rows.values() for field in ("fixedx", "fixedy")) + 100
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-far:.1f} {-far:.1f} {2 * far:.1f} {2 * far:.1f}"'
        f' width="900" height="900"><style>{_STYLE}</style>'
        '<defs><marker id="a" viewBox="0 0 10 10" refX="10" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L10 5L0 10z" fill="#6e7687"/></marker></defs>'
    ]
    parts += [_edge(rows, edge) for edge in edges.rows()]
    for row in rows.values():
        parts += _node(row, colors, options)
    return "\n".join([*parts, "</svg>", ""])


def _number(row: Mapping[str, Cell], field: str) -> float:
    value = row[field]
    assert isinstance(value, float)
    return value


def _edge(rows: Mapping[str, Mapping[str, Cell]], edge: Mapping[str, Cell]) -> str:
    try:
        source, target = rows[str(edge["source"])], rows[str(edge["target"])]
    except KeyError as missing:
        raise NoRing(f"an edge leads to {missing}, which is no node: Grafana would draw nothing at all") from missing
    x, y, to_x, to_y = (_number(row, field) for row in (source, target) for field in ("fixedx", "fixedy"))
    length = math.hypot(to_x - x, to_y - y) or 1.0
    along, across = (to_x - x) / length, (to_y - y) / length
    near, far = _number(source, "noderadius") + 5, _number(target, "noderadius") + 4
    return (
        f'<line class="e" x1="{x + along * near:.1f}" y1="{y + across * near:.1f}"'
        f' x2="{to_x - along * far:.1f}" y2="{to_y - across * far:.1f}" marker-end="url(#a)"/>'
    )


def _node(row: Mapping[str, Cell], colors: Mapping[str, str], options: Mapping[str, Any]) -> Iterator[str]:
    x, y, radius = (_number(row, field) for field in ("fixedx", "fixedy", "noderadius"))
    details = "\n".join(f"{name.removeprefix('detail__')}: {row[name]}" for name in row if name.startswith("detail__"))
    yield f'<g><title>{escape(details)}</title><circle class="c" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
    yield from _circle(x, y, radius, [(_number(row, field), color) for field, color in colors.items()])
    for offset, size, style, words in (
        (-2, 12, "t", f"{_number(row, 'mainstat'):.2f} {options['mainStatUnit']}"),
        (13, 10, "t d", f"{_number(row, 'secondarystat'):.0f} {options['secondaryStatUnit']}"),
        (radius + 16, 13, "t", row["title"]),
        (radius + 30, 11, "t d", row["subtitle"]),
    ):
        yield f'<text class="{style}" x="{x:.1f}" y="{y + offset:.1f}" font-size="{size}">{escape(str(words))}</text>'
    yield "</g>"


def _circle(x: float, y: float, radius: float, sections: Sequence[tuple[float, str]]) -> Iterator[str]:
    """Sections one after the other from the top, clockwise, as far as they fill the circle."""
    done = 0.0
    for share, color in sections:
        size = min(share, 1.0 - done)
        if size >= 1.0 - 1e-9:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="none" stroke="{color}" stroke-width="4"/>'
        elif size > 0.0:
            begin, end = (
                (x + math.sin(math.tau * part) * radius, y - math.cos(math.tau * part) * radius)
                for part in (done, done + size)
            )
            yield (
                f'<path d="M{begin[0]:.2f} {begin[1]:.2f}A{radius:.2f} {radius:.2f} 0 {int(size > 0.5)} 1'
                f' {end[0]:.2f} {end[1]:.2f}" fill="none" stroke="{color}" stroke-width="4"/>'
            )
        done += size
