"""The client beside a server that lies: one clean line, nothing outside its home, and an honest server right after."""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest
from tests.unit.client import forked
from tests.unit.client.gateway import RING_UID, Account, Server, World, now, serving
from tests.unit.client.liar import OUTSIDE, WIRE_TYPES, Lie, drawn, lies_in, telling

from coterie_client import kdf
from coterie_client.envelope import Content, archive_copy, open_body, seal
from coterie_client.session import Session, load_session, save_session
from coterie_client.settings import Settings
from coterie_protocol.client_api import (
    Closing,
    Done,
    Drained,
    Error,
    LoginParamsReply,
    LookupReply,
    Mail,
    MailItem,
    PageReply,
    PresenceReply,
    Receipt,
    SessionGranted,
    StatesReply,
    Stored,
    Superseded,
    Unsubscribed,
    Welcome,
)

PASSWORD = "correct horse"
AT_ONCE = 12
"""Commands that run beside each other: most of the time they wait."""
AT_ONE_HOME = 8
"""Lies that one home meets before it meets an honest server."""
DRAWN = 1
"""Homes to which lies of one type are told, for each command (liar.EVERY_LIE)."""

RECEIVE = ("receive", "--timeout", "1")
SEND = ("send", "bob", "hello")
DELIVERED = ("send", "bob", "hello", "--wait", "delivered", "--timeout", "1")
REGISTER = ("register", "carol", "--password-file", "-")
LOGIN = ("login", "alice", "--password-file", "-")
LOGOUT = ("logout",)
PRESENCE = ("presence", "bob")

MET_BY: dict[type[msgspec.Struct], tuple[tuple[str, ...], ...]] = {
    Welcome: (LOGIN, SEND),
    LoginParamsReply: (LOGIN,),
    SessionGranted: (REGISTER, LOGIN, RECEIVE),
    Done: (RECEIVE, LOGOUT),
    Stored: (SEND,),
    PageReply: (RECEIVE,),
    StatesReply: (RECEIVE, DELIVERED),
    PresenceReply: (PRESENCE,),
    LookupReply: (),
    Error: (REGISTER, LOGIN, SEND, RECEIVE, PRESENCE, LOGOUT),
    Mail: (RECEIVE, SEND),
    Drained: (RECEIVE,),
    Receipt: (DELIVERED, RECEIVE),
    Superseded: (SEND, RECEIVE),
    Unsubscribed: (RECEIVE,),
    Closing: (SEND,),
}
"""Which commands hear what. No command asks for a LookupReply yet."""


@dataclass
class Case:
    """Alice's device, a liar and an honest server of one ring."""

    world: World
    liar: Server
    honest: Server
    where: Path

    @property
    def home(self) -> Path:
        return self.where / "home"

    def made(self) -> set[Path]:
        """Return what there is outside of the home."""
        return set(self.where.iterdir()) - {self.home}

    def next_session(self) -> None:
        """Give alice a session that her history has not been paged for, whatever a liar has left."""
        alice = self.world.accounts["alice"]
        alice.epoch += 1
        alice.token = secrets.token_bytes(32)
        token = base64.b64encode(alice.token).decode()
        save_session(self.home / "session.json", Session("alice", RING_UID, alice.epoch, token))
        self.world.accounts.pop("carol", None)

    async def told(self, server: Server, *command: str) -> forked.Ran:
        env = {"COTERIE_HOME": str(self.home), "COTERIE_SERVERS": server.url}
        stdin = PASSWORD.encode() if "-" in command else b""
        return await forked.coterie(*command, where=self.where, env=env, stdin=stdin)


AUTH = {
    name: kdf.auth_key(kdf.root_key(PASSWORD, ring_uid=RING_UID, name=name, kdf=kdf.MINIMUM))
    for name in ("alice", "bob")
}


@asynccontextmanager
async def case(where: Path) -> AsyncIterator[Case]:
    """Run a liar, which is honest as yet, and an honest server; alice has mail and an archive."""
    await asyncio.to_thread(where.mkdir)
    world = World(RING_UID)
    for name in ("alice", "bob"):
        world.accounts[name] = Account(name, AUTH[name], kdf.MINIMUM, epoch=1, token=secrets.token_bytes(32))
    world.put(world.accounts["alice"], mail("hello from bob"))
    archived = MailItem("", secrets.token_bytes(16), 0, 2, archive_copy(body("an old one", "bob")), b"", 1, now())
    world.put(world.accounts["alice"], archived)
    Settings(where / "home").make_home()
    async with serving(world, 2) as (liar, honest):
        at = Case(world, liar, honest, where)
        at.next_session()
        yield at


def body(text: str, to: str) -> bytes:
    return seal(Content(1, now(), b"", now(), text, to))


def mail(text: str) -> MailItem:
    return MailItem("bob", secrets.token_bytes(16), 0, 0, body(text, "alice"), b"", 1, now())


def unclean(ran: forked.Ran) -> str:
    """Say what is wrong with how a command has ended, "" if nothing is."""
    lines = ran.err.split("\n")
    if lines.pop() != "":
        return "its last line has no end"
    if ran.code not in (0, 1, 2, 3, 4, 5, 7, 8, 9):
        return f"exit code {ran.code}"
    if any(not line.startswith("coterie: ") or not line.isprintable() or len(line) > 1000 for line in lines):
        return "a line that is not clean"
    if "a fault in this program" in ran.err:
        return "a fault in this program"
    notes = [line for line in lines if " earlier message" in line[:40] or "is new to you" in line]
    waits = [line for line in lines if line.startswith("coterie: waiting")]
    if len(waits) > 1:
        return "it told of a wait more than once"
    notes += waits
    if ran.code and len(lines) - len(notes) != 1:
        return "not one line"
    return ""


async def honest_after(at: Case, command: tuple[str, ...]) -> str:
    """Say what does not work with an honest server and the same home, "" if everything does."""
    ran = await at.told(at.honest, "send", "bob", "after")
    if ran.code in (3, 5, 7) and command in (LOGIN, REGISTER, LOGOUT):  # what the liar has granted is no session
        ran = await at.told(at.honest, *LOGIN)
        if ran.code:
            return f"login: {ran}"
        ran = await at.told(at.honest, "send", "bob", "after")
    if ran.code or unclean(ran):
        return f"send: {ran}"
    me = load_session(at.home / "session.json").name
    got = [open_body(item.body) for item in at.world.pending("bob")]
    if not any(isinstance(content, Content) and content.text == "after" for content in got):
        return "bob has not got it"
    at.world.put(at.world.accounts[me], mail("after that"))
    ran = await at.told(at.honest, "receive")
    if ran.code or unclean(ran) or "after that" not in ran.out:
        return f"receive: {ran}"
    ran = await at.told(at.honest, "history", "bob")
    if ran.code or unclean(ran) or "after that" not in ran.out or "after" not in ran.out:
        return f"history: {ran}"
    return ""


async def lied_to(where: Path, command: tuple[str, ...], lies: list[Lie]) -> list[str]:
    """Run a command against each of these lies, then an honest server with the same home; say what is wrong."""
    wrongs = []
    async with case(where) as at:
        for lie in lies:
            placed = replace(lie, value=str(where / "outside")) if lie.value == OUTSIDE else lie
            at.next_session()
            at.liar.speak = telling(placed)
            ran = await at.told(at.liar, *command)
            if wrong := unclean(ran):
                wrongs.append(f"{lie}: {' '.join(command)}: {wrong}: {ran}")
            if made := at.made():
                wrongs.append(f"{lie}: {' '.join(command)}: it made {made}")
        if wrong := await honest_after(at, command):
            wrongs.append(f"after {', '.join(map(str, lies))}: {' '.join(command)}, then {wrong}")
    return wrongs


def test_every_type_that_a_server_may_say_is_met_by_a_command() -> None:
    assert set(MET_BY) == set(WIRE_TYPES)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [kind for kind in WIRE_TYPES if MET_BY[kind] and lies_in(kind)])
async def test_a_lie_in_any_field_ends_in_one_clean_line(tmp_path: Path, kind: type[msgspec.Struct]) -> None:
    lies = drawn(lies_in(kind), DRAWN * AT_ONE_HOME)
    groups = [lies[first : first + AT_ONE_HOME] for first in range(0, len(lies), AT_ONE_HOME)]
    await all_lies(tmp_path, list(itertools.product(MET_BY[kind], groups)))


async def test_a_lie_of_each_type_ends_in_one_clean_line(tmp_path: Path) -> None:
    """One of the many above for each type, another with each run."""
    tries = [
        (random.choice(MET_BY[kind]), [random.choice(lies)])
        for kind in WIRE_TYPES
        if MET_BY[kind] and (lies := lies_in(kind))
    ]
    await all_lies(tmp_path, tries)


async def all_lies(tmp_path: Path, tries: list[tuple[tuple[str, ...], list[Lie]]]) -> None:
    turn = asyncio.Semaphore(AT_ONCE)

    async def some(number: int, command: tuple[str, ...], lies: list[Lie]) -> list[str]:
        async with turn:
            return await lied_to(tmp_path / str(number), command, lies)

    found = await asyncio.gather(*(some(number, *each) for number, each in enumerate(tries)))
    wrongs = [wrong for some in found for wrong in some]
    assert not wrongs, f"{len(wrongs)}:\n" + "\n".join(wrong[:600] for wrong in wrongs[:30])
