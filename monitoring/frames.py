"""What Grafana makes of Prometheus' answers: the transformations that the dashboard uses, done by the same rules.

There is no Grafana where tests run. This follows the documented behaviour of its Prometheus data source and of the
transformations "join by labels", "merge" and "organize fields", so far as the dashboard needs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .prometheus import Series

Cell = str | float | None


@dataclass
class Frame:
    """A table: columns by name, all of one length. Labels are those of the last column, as a series has them."""

    ref_id: str
    fields: dict[str, list[Cell]]
    labels: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Cell]]:
        """Return the table row by row."""
        return [dict(zip(self.fields, values, strict=True)) for values in zip(*self.fields.values(), strict=True)]


def answered(answers: Sequence[tuple[str, bool, Sequence[Series]]]) -> list[Frame]:
    """Return the frames of instant answers, given as (refId, whether a table is wanted, series).

    A time series becomes a frame each; a table becomes one frame whose columns are the labels, and whose value is
    called after its refId when it is not the only table.
    """
    tables = sum(wanted for _, wanted, _ in answers)
    frames = []
    for ref_id, table, found in answers:
        if not table:
            frames += [Frame(ref_id, {"Time": [s.points[-1][0]], "Value": [s.value]}, s.labels) for s in found]
            continue
        names = sorted({label for series in found for label in series.labels})
        columns: dict[str, list[Cell]] = {"Time": [series.points[-1][0] for series in found]}
        for name in names:
            columns[name] = [series.labels.get(name, "") for series in found]
        columns["Value" if tables == 1 else f"Value #{ref_id}"] = [series.value for series in found]
        frames.append(Frame(ref_id, columns))
    return frames


def transformed(frames: Sequence[Frame], transformations: Iterable[Mapping[str, Any]]) -> list[Frame]:
    """Apply a panel's transformations one after the other, each to the frames that its filter names."""
    found = list(frames)
    for one in transformations:
        pattern = one.get("filter", {}).get("options", "/.*/")
        mine = [frame for frame in found if re.search(pattern.strip("/"), frame.ref_id)]
        others = [frame for frame in found if not re.search(pattern.strip("/"), frame.ref_id)]
        found = [*_KINDS[one["id"]](mine, one["options"]), *others]
    return found


def _join_by_labels(frames: Sequence[Frame], options: Mapping[str, Any]) -> list[Frame]:
    """One row for each set of the joined labels, one column for each value of the label that is named."""
    if not frames:
        return []
    rows: dict[tuple[str | None, ...], dict[str, Cell]] = {}
    for frame in frames:
        key = tuple(frame.labels.get(label) for label in options["join"])
        rows.setdefault(key, {})[frame.labels[options["value"]]] = frame.fields["Value"][0]
    columns: dict[str, list[Cell]] = {label: [key[n] for key in rows] for n, label in enumerate(options["join"])}
    for name in dict.fromkeys(name for row in rows.values() for name in row):
        columns[name] = [row.get(name) for row in rows.values()]
    return [Frame("joinByLabels-" + "-".join(frame.ref_id for frame in frames), columns)]


def _merge(frames: Sequence[Frame], _: Mapping[str, Any]) -> list[Frame]:
    """One table: rows that have the same in all columns that every frame has become one, unless they contradict."""
    if len(frames) < 2:
        return list(frames)
    common = [name for name in frames[-1].fields if all(name in frame.fields for frame in frames)]
    names = list(dict.fromkeys(name for frame in frames for name in frame.fields))
    merged: list[dict[str, Cell]] = []
    for frame in frames:
        for row in frame.rows():
            for known in merged:
                if all(known.get(name) == row[name] for name in common) and _agree(known, row):
                    known.update(row)
                    break
            else:
                merged.append(dict(row))
    return [Frame("", {name: [row.get(name) for row in merged] for name in names})]


def _agree(known: Mapping[str, Cell], row: Mapping[str, Cell]) -> bool:
    return all(known.get(name) in (None, value) for name, value in row.items())


def _organize(frames: Sequence[Frame], options: Mapping[str, Any]) -> list[Frame]:
    """Columns left out. What it renames keeps its name for panels that look for names, so here nothing is renamed."""
    away = options["excludeByName"]
    return [
        Frame(frame.ref_id, {name: values for name, values in frame.fields.items() if not away.get(name)})
        for frame in frames
    ]


_KINDS = {"joinByLabels": _join_by_labels, "merge": _merge, "organize": _organize}
