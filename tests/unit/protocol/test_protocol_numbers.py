"""Numbers are read as people write them, at every door where text becomes one."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from coterie_client.commands import common
from coterie_node.config import values
from coterie_operator.arguments import UsageError, parse
from coterie_protocol.numbers import decimal, whole

ODD = [
    "",
    " ",
    "1_0",
    "nan",
    "inf",
    "-inf",
    "+5",
    "\u0663",
    "\u00b2",
    "\uff15",
    "0x10",
    "1e400",
    "1e999",
    "5 5",
    "5,5",
    "--5",
]


def operators(text: str) -> float:
    return parse(["apply-crd", "rings.yaml", f"--timeout={text}"], "1.0", {}).timeout  # type: ignore[union-attr]


READERS: dict[str, Callable[[str], float]] = {
    "whole": whole,
    "decimal": decimal,
    "seconds of the client": common.seconds,
    "counts of the client": common.positive,
    "seconds of a node": values.seconds,
    "durations of a node": values.duration,
    "counts of a node": values.positive,
    "slots": values.slots,
    "copies": values.copies,
    "the operator's": operators,
}


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("reader", READERS)
def test_what_only_python_takes_for_a_number_is_none(reader: str, text: str) -> None:
    with pytest.raises((ValueError, argparse.ArgumentTypeError, UsageError)):
        READERS[reader](text)


@pytest.mark.parametrize("reader", READERS)
def test_plain_numbers_are_read(reader: str) -> None:
    assert READERS[reader]("4") == 4
    assert READERS[reader](" 4\n") == 4


@pytest.mark.parametrize("text", ["0.5", ".5", "5.", "1e-05", "1e+06", "2.5e3", f"{0.00001:g}", f"{123456789.0:g}"])
def test_numbers_that_our_own_code_writes_are_read(text: str) -> None:
    assert decimal(text) == float(text)
    assert values.seconds(text) == float(text)
