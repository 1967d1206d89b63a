"""Are accounts and sessions linearizable? Wing and Gong's search with Lowe's memory, name by name.

Linearizable: each operation can be given one moment between its beginning and its end, so that a single account that
does one thing at a time would have answered the same. Names are independent, so each is searched alone (which is what
"P-compositional" says). A configuration of the search is what has had its moment and the account as it is then; none is
visited twice. What has had its moment is a bit set that begins at the first operation without one, so it stays as small
as what overlaps, and a moment at which nothing is under way cuts the history.

What ended unknown may have had its moment at any time since it began, or never, so it costs most. Three facts about
accounts tame it without giving up an answer:

- a name is never given away again: once anybody saw whose it is, no other unknown REGISTER has happened; while nobody
  did, the earliest can stand for all of them. Who was told that it is taken, never had it.
- unknown LOGINs are alike, so those that happened may be taken in the order of their beginning, each only when
  somebody saw a session epoch that needs it: they are a number, not a set.
- epochs only rise: a configuration that left out somebody who saw an older one is dead.

An operation that can have its moment now and changes nothing has it now; it could not be in the way of anybody.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from tests.history.events import UNSEEN, End, History, Kind, Operation, Value

ACCOUNTS = (Kind.REGISTER, Kind.LOGIN, Kind.READ)


class Account(NamedTuple):
    """A registered account; one that does not exist is None."""

    token: Value
    epoch: int
    used: int
    """How many of the unknown LOGINs have had their moment."""


@dataclass(frozen=True)
class _Seen:
    """An operation of which something is known: it happened, and what was answered."""

    kind: Kind
    token: Value
    """Whose the account is; of LOGIN, None."""
    epoch: int | None
    """The session epoch that it saw or made; 0 if it saw that there is no account, None if it cannot tell."""
    taken: bool
    """REGISTER was told that the name is taken."""
    began: float
    ended: float


@dataclass(frozen=True)
class _Unknown:
    """What may have happened."""

    logins: Sequence[float]
    """When each began, sorted."""
    registers: Sequence[tuple[float, Value]]
    """When the registrations began that are worth trying, and whose they are."""


def check_accounts(history: History) -> list[str]:
    """Return what is wrong, in lines for people; nothing if the accounts and sessions are linearizable.

    No account exists in the beginning.
    """
    by_name: dict[str, list[Operation]] = {}
    for operation in history.of(*ACCOUNTS):
        by_name.setdefault(operation.key, []).append(operation)
    return [complaint(name, operations) for name, operations in by_name.items() if not linearizable(operations)]


def linearizable(operations: Iterable[Operation]) -> bool:
    """Say whether the operations on one name are linearizable."""
    seen, unknown = _sorted_out(operations)
    return _search(seen, unknown)


def _sorted_out(operations: Iterable[Operation]) -> tuple[list[_Seen], _Unknown]:
    """Part what was answered from what is unknown, and leave out what nobody can have noticed."""
    seen: list[_Seen] = []
    logins: list[float] = []
    registers: dict[Value, float] = {}
    for one in operations:
        token, result = _hashable(one.value), _hashable(one.result)
        if one.end is End.UNKNOWN or one.ended is None:
            if one.kind is Kind.LOGIN:
                logins.append(one.began)
            elif one.kind is Kind.REGISTER:
                registers[token] = min(one.began, registers.get(token, one.began))
        elif one.kind is Kind.REGISTER:
            seen.append(_Seen(one.kind, token, None, one.end is End.REFUSED, one.began, one.ended))
        elif one.end is End.DONE and one.kind is Kind.LOGIN:
            assert isinstance(result, int), f"a LOGIN that is done returns its session epoch: {one}"
            seen.append(_Seen(one.kind, None, result, False, one.began, one.ended))
        elif one.end is End.DONE and one.kind is Kind.READ:
            whose, epoch = result if isinstance(result, tuple) else (None, 0)
            seen.append(_Seen(one.kind, whose, None if epoch == UNSEEN else epoch, False, one.began, one.ended))
    seen.sort(key=lambda one: one.began)
    losers = {one.token for one in seen if one.taken}
    owners = {one.token for one in seen if not one.taken and one.token is not None}
    chances = sorted(
        ((began, token) for token, began in registers.items() if token not in losers), key=lambda chance: chance[0]
    )
    chances = [chance for chance in chances if chance[1] in owners] if owners else chances[:1]
    return seen, _Unknown(sorted(logins), chances)


def _hashable(value: Value) -> Value:
    return tuple(value) if isinstance(value, list) else value  # type: ignore[return-value]


def _search(seen: Sequence[_Seen], unknown: _Unknown) -> bool:
    """Look for an order.

    A configuration is (first operation without its moment, bits from there on of those that had theirs, the account).
    """
    stack: list[tuple[int, int, Account | None]] = [(0, 0, None)]
    visited = set(stack)
    while stack:
        first, bits, state = stack.pop()
        if first == len(seen):
            return True
        following: list[tuple[int, int, Account]] = []
        waiting, latest = _waiting(seen, first, bits)
        epoch = 0 if state is None else state.epoch
        if any(seen[at].epoch is not None and seen[at].epoch < epoch for at in waiting):  # type: ignore[operator]
            continue
        had = 0
        for at in waiting:
            for after in _steps(seen[at], state, latest, unknown):
                if after == state:
                    had |= 1 << (at - first)
                else:
                    assert after is not None
                    following.append((after.epoch, at, after))
        choices = (
            [(had, state)]
            if had
            else [
                (1 << (at - first), after) for _, at, after in sorted(following, key=lambda one: one[0], reverse=True)
            ]
        )
        for more, after in choices:
            all_bits = bits | more
            gone = ((all_bits + 1) & ~all_bits).bit_length() - 1  # How many low bits are ones.
            configuration = (first + gone, all_bits >> gone, after)
            if configuration not in visited:
                visited.add(configuration)
                stack.append(configuration)
    return False


def _waiting(seen: Sequence[_Seen], first: int, bits: int) -> tuple[list[int], float]:
    """Return who may have the next moment (all began before any of them ended), and until when that must be."""
    waiting: list[int] = []
    latest = float("inf")
    missing = ~bits
    while True:
        low = missing & -missing
        at = first + low.bit_length() - 1
        if at >= len(seen) or seen[at].began > latest:
            return waiting, latest
        missing ^= low
        waiting.append(at)
        latest = min(latest, seen[at].ended)


def _steps(one: _Seen, state: Account | None, latest: float, unknown: _Unknown) -> Iterator[Account | None]:
    """Return each account as which this operation, in its moment, can leave the one that is given."""
    if one.kind is Kind.READ and one.token is None:
        if state is None:
            yield None
        return
    if one.kind is Kind.REGISTER and not one.taken:
        if state is None:
            yield Account(one.token, 1, 0)
        elif state.token == one.token:
            yield state
        return
    if state is not None:
        accounts = [state]
    else:
        accounts = [Account(token, 1, 0) for began, token in unknown.registers if began <= latest]
    for account in accounts:
        if one.taken:
            if account.token != one.token:
                yield account
            continue
        if one.epoch is None:
            if account.token == one.token:
                yield account
            continue
        login = one.kind is Kind.LOGIN
        if not login and account.token != one.token:
            continue
        lacking = one.epoch - account.epoch - login
        if 0 <= lacking <= bisect_right(unknown.logins, latest) - account.used:
            yield Account(account.token, one.epoch, account.used + lacking)


# --- telling people ---


def complaint(name: str, operations: Sequence[Operation]) -> str:
    """Say where a name's history ceases to be linearizable, and which of its operations contradict each other."""
    events = sorted({one.ended for one in operations if one.ended is not None})
    low, high = 0, len(events) - 1
    while low < high:
        middle = (low + high) // 2
        if linearizable(_until(operations, events[middle])):
            low = middle + 1
        else:
            high = middle
    prefix = _until(operations, events[low])
    core = _contradiction(prefix)
    lines = [f"{told(one)}" for one in core]
    return (
        f"account {name!r}: no order explains its first {len(prefix)} operations, up to {events[low]:.6f} s; "
        f"these cannot all be true:\n  " + "\n  ".join(lines)
    )


def _until(operations: Iterable[Operation], time: float) -> list[Operation]:
    """Return what was known at a time: what had not ended is unknown."""
    return [
        _forgotten(one) if one.ended is None or one.ended > time else one for one in operations if one.began <= time
    ]


def _forgotten(one: Operation) -> Operation:
    return msgspec.structs.replace(one, ended=None, end=End.UNKNOWN, result=None)


def _contradiction(operations: Sequence[Operation]) -> list[Operation]:
    """Return a few that contradict each other even if nothing were known of how the others ended (delta debugging)."""
    known = {at for at, one in enumerate(operations) if one.end is not End.UNKNOWN}

    def holds(some: set[int]) -> bool:
        return linearizable(one if at in some else _forgotten(one) for at, one in enumerate(operations))

    size = max(1, len(known) // 2)
    while True:
        before = len(known)
        order = sorted(known)
        for start in range(0, len(order), size):
            fewer = known - set(order[start : start + size])
            if not holds(fewer):
                known = fewer
        if size == 1 and len(known) == before:
            return [operations[at] for at in sorted(known)]
        size = max(1, min(size, len(known)) // 2)


def told(one: Operation) -> str:
    """Write an operation for people."""
    ended = "..." if one.ended is None else f"{one.ended:.6f}"
    what = f"{one.kind}" if one.value is None else f"{one.kind} {one.value}"
    end = f"done: {one.result}" if one.end is End.DONE and one.kind is not Kind.REGISTER else str(one.end)
    return f"[{one.began:.6f} {ended}] #{one.number} {one.actor}: {what} -> {end}"
