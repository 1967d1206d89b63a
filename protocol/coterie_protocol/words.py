"""Words for people that several programs need."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 slot", "2 slots". `many` is for plurals that are not made with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


MOST_LISTED = 5


def listed(names: Sequence[str]) -> str:
    """Return names in a row, the first few of many."""
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
