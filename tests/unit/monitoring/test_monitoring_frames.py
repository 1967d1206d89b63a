"""Grafana's transformations, as the dashboard uses them."""

from __future__ import annotations

import pytest
from monitoring.frames import Frame, answered, transformed
from monitoring.listing import Query
from monitoring.prometheus import NoAnswer, Prometheus, Series, Window


def series(value: float, **labels: str) -> Series:
    return Series(labels, [(1.0, value)])


def test_series_become_frames_and_a_table_one_frame() -> None:
    found = answered([("x", False, [series(1.0, id="a"), series(2.0, id="b")]), ("t", True, [series(1.0, name="n")])])
    assert found == [
        Frame("x", {"Time": [1.0], "Value": [1.0]}, {"id": "a"}),
        Frame("x", {"Time": [1.0], "Value": [2.0]}, {"id": "b"}),
        Frame("t", {"Time": [1.0], "name": ["n"], "Value": [1.0]}),
    ]


def test_values_of_several_tables_are_called_after_their_queries() -> None:
    found = answered([("t", True, [series(1.0, name="n")]), ("u", True, [series(2.0)])])
    assert [list(frame.fields) for frame in found] == [["Time", "name", "Value #t"], ["Time", "Value #u"]]


def test_a_label_that_a_row_lacks_is_empty() -> None:
    (found,) = answered([("t", True, [series(1.0, name="n"), series(2.0, uid="u")])])
    assert found.rows() == [
        {"Time": 1.0, "name": "n", "uid": "", "Value": 1.0},
        {"Time": 1.0, "name": "", "uid": "u", "Value": 2.0},
    ]


def test_frames_are_joined_merged_and_organized() -> None:
    asked = [
        ("x", False, [series(1.0, id="a", field="fixedx"), series(2.0, id="b", field="fixedx")]),
        ("y", False, [series(3.0, id="a", field="fixedy")]),
        ("texts", True, [series(1.0, id="a", title="A"), series(1.0, id="b", title="B")]),
        ("edges", True, [series(1.0, id="a > b", source="a", target="b")]),
    ]
    nodes, edges = transformed(
        answered(asked),
        [
            {"id": "joinByLabels", "filter": {"options": "/^(?:x|y)$/"}, "options": {"value": "field", "join": ["id"]}},
            {"id": "merge", "filter": {"options": "/^(?!edges$).*$/"}, "options": {}},
            {
                "id": "organize",
                "options": {"excludeByName": {"Time": True, "Value #texts": True, "Value #edges": True}},
            },
        ],
    )
    assert nodes.rows() == [
        {"id": "a", "fixedx": 1.0, "fixedy": 3.0, "title": "A"},
        {"id": "b", "fixedx": 2.0, "fixedy": None, "title": "B"},
    ]
    assert edges.rows() == [{"id": "a > b", "source": "a", "target": "b"}]


def test_rows_that_contradict_stay_two() -> None:
    frames = [Frame("a", {"id": ["n"], "x": [1.0]}), Frame("b", {"id": ["n"], "x": [2.0]})]
    (merged,) = transformed(frames, [{"id": "merge", "options": {}}])
    assert merged.rows() == [{"id": "n", "x": 1.0}, {"id": "n", "x": 2.0}]


@pytest.mark.parametrize(
    ("window", "interval"), [(Window(0.0), "4s"), (Window(0.0, step=60.0, scrape=15.0), "75s")], ids=["near", "far"]
)
def test_variables_are_put_in_as_grafana_does(window: Window, interval: str) -> None:
    prometheus = Prometheus("http://127.0.0.1:1", {"ring": "r1", "namespace": ".*", "node": "a"})
    text = 'rate(x{ring=~"$ring", namespace=~"${namespace}"}[$__rate_interval])'
    assert prometheus.filled(text, window) == f'rate(x{{ring=~"r1", namespace=~".*"}}[{interval}])'


def test_what_does_not_answer_is_an_error_of_its_own() -> None:
    with pytest.raises(NoAnswer, match="does not answer as a Prometheus"):
        Prometheus("http://127.0.0.1:1").ask(Query("", "", "A", "up", instant=True), Window(0.0))
