"""Distributions count as Prometheus' histograms do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coterie_node.measure import DELIVERY_SECONDS, Distribution


@given(st.lists(st.floats(0, 1e7)))
def test_each_bucket_holds_what_is_at_most_its_bound(values: list[float]) -> None:
    found = Distribution(DELIVERY_SECONDS)
    for value in values:
        found.observe(value)
    for bound, number in found.cumulative():
        assert number == sum(value <= bound for value in values)
    assert found.number == len(values)
    assert found.total == sum(values)


def test_a_bound_belongs_to_its_own_bucket() -> None:
    found = Distribution((1.0, 2.0))
    for value in (1.0, 1.5, 2.0, 2.1):
        found.observe(value)
    assert found.counts == [1, 2, 1]
