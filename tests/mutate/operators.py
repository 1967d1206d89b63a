"""What can be changed in a source text: every small fault that a person could make there, one at a time.

The operators on expressions are mutmut's. Three on statements are our own, for faults of protocols are mostly steps
that are left out: a statement that is not run, a branch that is always or never taken, a function that returns nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation import mutators

QUIET = m.Call(func=m.OneOf(m.Attribute(value=m.Name("log")), m.Name("TypeVar"), m.Name("NewType"), m.Name("cast")))
"""Calls whose arguments keep no promise: what is logged, and what only a type checker reads."""
KEPT: tuple[m.BaseMatcherNode, ...] = (
    m.Annotation(),
    m.Decorator(),
    m.Import(),
    m.ImportFrom(),
    m.If(test=m.Name("TYPE_CHECKING")),
    m.Raise(),  # its text; that it is raised is a statement that can be left out
    m.Assert(),
    QUIET,
)
"""What is not looked into."""

Operator = Callable[[Any], Any]


def left_out(node: cst.SimpleStatementLine) -> Iterator[cst.SimpleStatementLine]:
    """Run a statement no more: calls, awaited calls, assignments to parts of something, deletions, raises."""
    if len(node.body) != 1:
        return
    statement = node.body[0]
    call = m.Expr(value=m.OneOf(m.Call(), m.Await()))
    part = m.OneOf(m.Attribute(), m.Subscript())
    assigned = m.OneOf(m.Assign(targets=[m.AssignTarget(target=part)]), m.AugAssign(), m.AnnAssign(target=part))
    if m.matches(statement, m.Expr(value=QUIET)):
        return
    if m.matches(statement, call | assigned | m.Del() | m.Raise()):
        yield node.with_changes(body=[cst.Pass()])


def forced(node: cst.If) -> Iterator[cst.If]:
    """Always take a branch, or never."""
    for value in ("True", "False"):
        yield node.with_changes(test=cst.Name(value))


def returned(node: cst.Return) -> Iterator[cst.Return]:
    """Return nothing instead of something; what is already a plain value is mutmut's to change."""
    if node.value is not None and not m.matches(node.value, m.Name() | m.SimpleString() | m.Integer()):
        yield node.with_changes(value=cst.Name("None"), whitespace_after_return=cst.SimpleWhitespace(" "))


OPERATORS: tuple[tuple[type[cst.CSTNode], Operator], ...] = (
    *(pair for pair in mutators.mutation_operators if pair[1] is not mutators.operator_string),
    (cst.SimpleStatementLine, left_out),
    (cst.If, forced),
    (cst.Return, returned),
)
"""Texts are left alone: they are read by people, and what is SQL among them fails at once."""


@dataclass(frozen=True)
class Mutant:
    """One change in one file."""

    path: str
    """Relative to the checkout."""
    number: int
    """Which of the file's mutants, from 0, in the order of the text."""
    line: int
    """From 1; where the changed piece begins ..."""
    end: int
    """... and ends."""
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {_short(self.before)}  ->  {_short(self.after)}  (mutant {self.number})"


def mutants(path: str, source: str) -> Iterator[tuple[Mutant, Callable[[], str]]]:
    """Return every mutant of a text, each with what makes the changed text. Raises what libcst does for bad syntax."""
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    positions = wrapper.resolve(PositionProvider)
    module = wrapper.module
    number = 0
    for node in _open(module):
        for kind, operator in OPERATORS:
            if not isinstance(node, kind):
                continue
            for changed in operator(node):
                where = positions[node]
                before, after = module.code_for_node(node), module.code_for_node(changed)
                if before.strip() == after.strip():
                    continue
                mutant = Mutant(path, number, where.start.line, where.end.line, before, after)
                number += 1
                yield mutant, _maker(module, node, changed)


def _maker(module: cst.Module, node: cst.CSTNode, changed: cst.CSTNode) -> Callable[[], str]:
    def make() -> str:
        made = module.deep_replace(node, changed)
        assert isinstance(made, cst.Module)
        return made.code

    return make


def _open(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Return a node and all below it, in the order of the text, without what is KEPT."""
    yield node
    for child in node.children:
        if m.matches(child, m.SimpleStatementLine(body=[m.Raise()])):
            yield child
        if not any(m.matches(child, kept) for kept in KEPT):
            yield from _open(child)


def _short(code: str) -> str:
    lines = [line.strip() for line in code.strip().splitlines() if line.strip() and not line.strip().startswith("#")]
    text = lines[0] if lines else ""
    text += " ..." if len(lines) > 1 else ""
    return text if len(text) <= 100 else f"{text[:97]}..."
