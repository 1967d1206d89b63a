"""Counts are told with their noun: nobody reads of "1 findings"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import coterie_client
import coterie_node
import coterie_operator
from coterie_protocol.words import counted, listed

NOUNS = (
    "accounts|archives|characters|claims|connections|contacts|copies|descriptors|devices|files|findings|frames|"
    "links|machines|mailboxes|members|messages|names|nodes|pages|people|pods|ports|records|replicas|requests|rings|"
    "rows|seconds|sessions|slots|streams|tombstones|users"
)
PLURAL = re.compile(rf" (?:[a-z]+ )?(?:{NOUNS})\b")
NEVER_ONE = re.compile(r"[A-Z_]+$")
"""A constant, whose value is known to be more."""


def test_one_is_one() -> None:
    assert [counted(number, "slot") for number in (0, 1, 2)] == ["0 slots", "1 slot", "2 slots"]
    assert counted(1, "copy", "copies") == "1 copy"
    assert counted(3, "copy", "copies") == "3 copies"
    assert listed([]) == ""
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(7)]) == "0, 1, 2, 3, 4 and 2 more"


def _bare(path: Path) -> Iterator[str]:
    """Yield the counts of a source file that a plural follows whatever they are."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, after in zip(node.values, node.values[1:], strict=False):
            if not isinstance(value, ast.FormattedValue) or not isinstance(after, ast.Constant):
                continue
            if value.format_spec is not None:
                continue  # a column of a table
            said = ast.unparse(value.value)
            if PLURAL.match(str(after.value)) and not NEVER_ONE.search(said) and "counted(" not in said:
                yield f"{path.name}:{node.lineno}: {{{said}}}{str(after.value)[:30]}"


def test_no_count_is_followed_by_a_plural_whatever_it_is() -> None:
    found: list[str] = []
    for package in (coterie_node, coterie_client, coterie_operator):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            found += _bare(path)
    assert not found
