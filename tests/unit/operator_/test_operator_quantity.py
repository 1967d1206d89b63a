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
    ],
)
def test_quantities(text: str, number: int) -> None:
    assert quantity(text) == number
