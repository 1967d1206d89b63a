"""The table of bounds in docs/protocol.md says what bounds.py says."""

from __future__ import annotations

import re
from pathlib import Path

from coterie_protocol import bounds

DOCS = Path(__file__).parents[3] / "docs" / "protocol.md"
TOLD = re.compile(r"^\| .* \| ([\d,]+) \| `(MAX_[A-Z_]+)` \|$", re.MULTILINE)


def test_every_limit_is_in_the_table_with_its_number() -> None:
    told = {name: int(number.replace(",", "")) for number, name in TOLD.findall(DOCS.read_text("utf-8"))}
    assert told == {name: value for name, value in vars(bounds).items() if name.startswith("MAX_")}
