"""Numbers as people write them, and nothing else that Python would read as one: no `1_0`, `nan`, `inf`, `+5`, `٣`."""

from __future__ import annotations

import re

_WHOLE = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][+-]?[0-9]{1,2})?")


def whole(text: str) -> int:
    """Read a whole number of at most 18 digits, with blanks around it. Raises ValueError, without a reason."""
    if not _WHOLE.fullmatch(number := text.strip()):
        raise ValueError
    return int(number)


def decimal(text: str) -> float:
    """Read a finite number, such as 5, 0.5, .5 or 1e-05, with blanks around it. Raises ValueError, without a reason."""
    if not _DECIMAL.fullmatch(number := text.strip()):
        raise ValueError
    return float(number)
