"""Sizes that are written differently and mean the same."""

from __future__ import annotations

import pytest

from coterie_operator.quantity import quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1Gi", 2**30),
        ("1024Mi", 2**30),
        ("1.5Gi", 3 * 2**29),
        ("1G", 10**9),
        ("1e9", 10**9),
        ("1E3", 1000),
        ("2E", 2 * 10**18),
        ("128974848", 128974848),
        ("128974848000m", 128974848),
        ("", 0),
        ("much", 0),
        ("٣Gi", 0),
        ("1e999999999", 2**63 - 1),  # Kubernetes itself takes more for this, too
        ("-1e999999999", 1 - 2**63),
        ("1e" + "9" * 30, 0),
        ("9" * 5000, 0),
        ("8Ei", 2**63 - 1),
    ],
)
def test_quantities(text: str, number: int) -> None:
    assert quantity(text) == number


def test_a_quantity_that_is_next_to_nothing_is_more_than_none() -> None:
    assert 0 < quantity("1e-999999999") < quantity("1n")
