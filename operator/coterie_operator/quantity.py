"""Kubernetes' quantities (`1Gi`, `500M`, `1.5e9`) as numbers, to compare two that are written differently."""

from __future__ import annotations

import re
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal

_SUFFIX = {
    "": Decimal(1),
    **{name: Decimal(10) ** (3 * power) for power, name in ((-3, "n"), (-2, "u"), (-1, "m"))},
    **{name: Decimal(10) ** (3 * power) for power, name in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    **{name: Decimal(1024) ** power for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}
_FORM = re.compile(r"([+-]?(?:\d{1,99}\.?\d{0,99}|\.\d{1,99}))(?:([eE][+-]?\d{1,9})|(n|u|m|k|[KMGTPE]i?)?)", re.ASCII)
_MOST = Decimal(2**63 - 1)
"""What Kubernetes itself takes everything above for."""
_CONTEXT = Context(prec=250, Emax=MAX_EMAX, Emin=MIN_EMIN)


def quantity(text: str) -> Decimal:
    """Return the number; 0 for what is none (the API lets no such thing in)."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        return Decimal(0)
    number, exponent, suffix = found.groups()
    value = _CONTEXT.multiply(Decimal(number + (exponent or "")), _SUFFIX.get(suffix or "", Decimal(0)))
    return max(-_MOST, min(_MOST, value))
