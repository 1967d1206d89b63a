"""Faults put back on purpose, one at a time, in the real code: the target that can see one must find it.

They are faults that were found from outside, before what travels had bounds, items had weights, and a poisoned item
was alone in failing. `python -m tests.fuzz --mutations` looks for all of them.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec
from aiohttp import web
from tests.fuzz.engine import Finding, explore
from tests.fuzz.loose import Loose, loose
from tests.fuzz.targets import TARGETS
from tests.sim import memory_store

from coterie_client import envelope, history, terminal
from coterie_client import session as sessions
from coterie_node.api import admin
from coterie_node.chat.owner import archive, delivery
from coterie_node.discovery import packet
from coterie_node.peer import link
from coterie_node.replication import sifting
from coterie_node.replication.antientropy import pages
from coterie_node.replication.append import batches, coordinator
from coterie_node.store import counters, records, registers, rows
from coterie_node.watched import WatchedFile
from coterie_operator import spec
from coterie_protocol import frames
from coterie_protocol.client_api import ClientFrame

Mutation = Callable[[], AbstractContextManager[None]]
_MISSING = object()


class NeverRaised(Exception):
    """Stands where an `except` named something that happens."""


@dataclass(frozen=True)
class Mutant:
    """A fault, and the target that must find it."""

    name: str
    target: str
    mutation: Mutation


@contextmanager
def replaced(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Have other things under names of modules and classes for a while; builtins of a module, too."""
    before = [(owner, name, vars(owner).get(name, _MISSING)) for owner, name, _ in changes]
    for owner, name, value in changes:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in reversed(before):
            if value is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def unhandled(module: Any, *names: str) -> Mutation:
    """Let a module handle these exceptions no more."""
    return lambda: replaced(*((module, name, NeverRaised) for name in names))


def swapped(*changes: tuple[Any, str, Any]) -> Mutation:
    """Put other things in place."""
    return lambda: replaced(*changes)


# --- The faults --------------------------------------------------------------------------------------------------


def _unchecked(_: Any) -> str:
    """Stand for `records.fault_of` where nothing is checked before it enters a turn."""
    return ""


def _read_cursor(cursor: bytes) -> tuple[int, bytes] | None:
    return (int.from_bytes(cursor[:8], "big"), cursor[8:]) if cursor else None


def _decode_peer(data: bytes, _: Any = None) -> Any:
    """Refuse a message as a whole for one frame of it."""
    return frames.decode_peer(data)


def _authorise(request: web.Request, token: WatchedFile) -> None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.current()):
        raise web.HTTPUnauthorized(text="send the admin token")


def _loose_session(data: bytes, *, type: Any) -> Any:  # noqa: A002  (as msgspec names it)
    try:
        return loose(type, json.loads(data))
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def _number_of(of: Mapping[str, Any], key: str, default: float, *_: Any) -> float:
    return float(of.get(key, default))


def _objects_of(of: Mapping[str, Any], key: str) -> tuple[Any, ...]:
    return tuple(of.get(key) or ())


def _body_alone(item: Any) -> int:
    return len(item.body)


_NOTHING = re.compile("(?!)")

OF_CLIENTS = ((frames, "_client", Loose(list[ClientFrame])), (archive, "read_cursor", _read_cursor))
OF_VALUES = tuple((module, "fault_of", _unchecked) for module in (coordinator, sifting, rows))
OF_BODIES = ((envelope, "_decoder", Loose(envelope.Content)), (history, "OverflowError", NeverRaised))
OF_REGISTERS = (
    (registers, "_sound", lambda *_: True),
    (registers, "_decoded", lambda decoder, row: decoder.decode(row)),
)
BLIND_MSGSPEC = SimpleNamespace(msgpack=msgspec.msgpack, MsgspecError=NeverRaised)
LOOSE_JSON = SimpleNamespace(json=SimpleNamespace(decode=_loose_session), MsgspecError=msgspec.MsgspecError)
OF_EVENTS = (delivery, "weight_of_mail_item", _body_alone)
OF_APPENDS = (batches, "weight_of_record", _body_alone)
OF_COPIES = (pages, "weight_of_record", _body_alone)
OF_PAGES = tuple((module, "weight_of_record", _body_alone) for module in (records, memory_store))

MUTANTS = (
    Mutant("client-bounds-removed", "client-frames", swapped(*OF_CLIENTS)),
    Mutant("values-enter-a-turn-unchecked", "peer-frames", swapped(*OF_VALUES)),
    Mutant("a-frame-cuts-the-link", "peer-frames", swapped((link, "decode_peer", _decode_peer))),
    Mutant("a-token-that-is-no-text", "admin-http", swapped((admin, "authorise", _authorise))),
    Mutant("a-datagram-that-does-not-decode", "multicast", swapped((packet, "msgspec", BLIND_MSGSPEC))),
    Mutant("body-bounds-removed", "bodies", swapped(*OF_BODIES)),
    Mutant("the-terminal-obeys", "bodies", swapped((terminal, "_UNSEEN", _NOTHING), (terminal, "_IN_TEXT", _NOTHING))),
    Mutant("session-bounds-removed", "sessions", swapped((sessions, "msgspec", LOOSE_JSON))),
    Mutant("a-row-of-another-type", "stores", unhandled(rows, "TypeError", "AttributeError")),
    Mutant("a-row-of-another-type-is-counted", "stores", swapped((counters, "isinstance", lambda *_: True))),
    Mutant("a-register-that-does-not-decode", "stores", swapped(*OF_REGISTERS)),
    Mutant("a-number-that-is-none", "chart-values", swapped((spec, "_number", _number_of))),
    Mutant("a-list-that-is-none", "chart-values", swapped((spec, "_objects", _objects_of))),
    Mutant("an-item-weighs-its-body-alone", "mailboxes", swapped(OF_EVENTS, OF_APPENDS, OF_COPIES, *OF_PAGES)),
    Mutant("a-page-weighs-bodies-alone", "mailboxes", swapped(*OF_PAGES)),
    Mutant("a-copied-page-weighs-bodies-alone", "mailboxes", swapped(OF_COPIES)),
    Mutant("an-append-weighs-bodies-alone", "mailboxes", swapped(OF_APPENDS)),
)


def search(mutant: Mutant, *, seeds: int = 8, examples: int = 400) -> tuple[Finding | None, int]:
    """Let a mutant's target look for it, seed after seed; return what it found, and the seeds that this took."""
    with mutant.mutation():
        for number in range(seeds):
            if (finding := explore(TARGETS[mutant.target](), number, examples, shrink=False)) is not None:
                return finding, number + 1
    return None, seeds
