"""Histories to try the checkers on: what a single account that does one thing at a time answers, with overlaps."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

from tests.history.events import UNSEEN, End, History, Kind, Operation


def account_history(rng: random.Random, count: int, overlap: float, unknown: float, name: str = "ann") -> History:
    """Let a sequential account answer `count` operations, some `overlap` of them under way at any time.

    A share `unknown` of them never ends, half of these without having happened.
    """
    moments = sorted((rng.random() * count, number) for number in range(count))
    owner: str | None = None
    epoch = 0
    operations = []
    for moment, number in moments:
        kind = rng.choices((Kind.REGISTER, Kind.LOGIN, Kind.READ), (1, 3, 3))[0]
        operation = Operation(number, f"c{number}", kind, name, None, moment - rng.random() * overlap)
        if kind is Kind.REGISTER:
            operation.value = f"t{number}"
        operation.ended = moment + rng.random() * overlap
        operation.end = End.DONE
        nobody_knows = rng.random() < unknown
        if nobody_knows:
            operation.ended, operation.end = None, End.UNKNOWN
        if nobody_knows and rng.random() < 0.5:
            operations.append(operation)
            continue
        if kind is Kind.REGISTER:
            if owner is None:
                owner, epoch = f"t{number}", 1
            elif not nobody_knows:
                operation.end = End.REFUSED
        elif kind is Kind.LOGIN:
            if owner is None:
                continue  # No such user: no effect, and nothing that a history keeps.
            epoch += 1
            if not nobody_knows:
                operation.result = epoch
        elif not nobody_knows:
            operation.result = None if owner is None else [owner, epoch]
        operations.append(operation)
    history = History()
    history.operations = sorted(operations, key=lambda one: one.began)
    for number, one in enumerate(history.operations):
        one.number = number
    return history


def by_force(operations: Sequence[Operation]) -> bool:
    """Try every order of every choice of the unknown ones: the definition, for a handful of operations on one name."""
    certain = [one for one in operations if one.end is not End.UNKNOWN]
    maybe = [one for one in operations if one.end is End.UNKNOWN and one.kind is not Kind.READ]
    for chosen in _subsets(maybe):
        for order in itertools.permutations([*certain, *chosen]):
            if _in_time(order) and _possible(order):
                return True
    return False


def _subsets(some: Sequence[Operation]) -> Iterator[tuple[Operation, ...]]:
    return itertools.chain.from_iterable(itertools.combinations(some, count) for count in range(len(some) + 1))


def _in_time(order: Sequence[Operation]) -> bool:
    return not any(
        later.ended is not None and later.ended < earlier.began
        for at, earlier in enumerate(order)
        for later in order[at + 1 :]
    )


def _possible(order: Sequence[Operation]) -> bool:
    owner: object = None
    epoch = 0
    for one in order:
        if one.kind is Kind.REGISTER:
            if one.end is End.REFUSED:
                if owner is None or owner == one.value:
                    return False
            elif owner is None:
                owner, epoch = one.value, 1
            elif owner != one.value and one.end is End.DONE:
                return False
        elif one.end is End.REFUSED:
            continue
        elif one.kind is Kind.LOGIN:
            if owner is not None:
                epoch += 1
            if one.end is End.DONE and (owner is None or epoch != one.result):
                return False
        elif one.result not in ((None,) if owner is None else ([owner, epoch], [owner, UNSEEN])):
            return False
    return True
