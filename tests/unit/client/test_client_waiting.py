"""What is waited for is told, once; and what is wrong with the ring is not taken for a missing ring."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.client.conftest import PASSWORD, Coterie, Enter, said
from tests.unit.client.gateway import Gateway, Refusal, Server, World
from tests.unit.client.running import line_of, running

from coterie_client import connection
from coterie_client.connection import Connected, Connection, Failed, Notice, Serverless
from coterie_client.errors import Unavailable
from coterie_client.session import load_session
from coterie_client.settings import Settings
from coterie_protocol.client_api import Hello, Request
from coterie_protocol.errors import ErrorCode

LACKING = "no majority: 1 of the 3 nodes that hold this name can be reached"
SENTENCE = f"the ring cannot do this just now: {LACKING}; start the nodes that are down (coterie ring shows them)"


def without_majority(_: Gateway, request: Request) -> None:
    if not isinstance(request, Hello):
        raise Refusal(ErrorCode.UNAVAILABLE, LACKING)


async def test_a_ring_without_a_majority_is_not_told_to_be_started(
    world: World, server: Server, alice: Settings
) -> None:
    world.faults = without_majority
    servers = ["ws://127.0.0.1:9", server.url, "ws://127.0.0.1:19"]
    with pytest.raises(Unavailable) as caught:
        await Connection(servers, session=load_session(alice.session_file), patience=0.3).start()
    assert str(caught.value) == f"{SENTENCE} and try again"


async def test_what_is_waited_for_is_told_once(world: World, alice: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PROGRESS", 0.1)
    world.faults = without_majority
    told: list[str] = []
    session = load_session(alice.session_file)
    with pytest.raises(Unavailable):
        await Connection(alice.servers, session=session, patience=1.0, on_wait=told.append).start()
    assert told == [f"waiting: {SENTENCE}"]


WAITING = {
    "register": ("carol", "--password-file", "PASSWORD"),
    "login": ("alice", "--password-file", "PASSWORD"),
    "logout": (),
    "send": ("bob", "hello"),
    "receive": (),
    "chat": ("bob",),
    "presence": ("bob",),
}
"""Commands that a server must answer, with their arguments."""


async def test_every_command_that_waits_says_what_for(
    world: World, enter: Enter, server: Server, tmp_path: Path
) -> None:
    for command in WAITING:
        await enter("alice", home=command, again="alice" in world.accounts)
    world.faults = without_majority
    (tmp_path / "password").write_text(PASSWORD)

    async def first_line(command: str, arguments: tuple[str, ...]) -> str:
        given = [str(tmp_path / "password") if one == "PASSWORD" else one for one in arguments]
        async with running(tmp_path / command, server.url, command, *given) as process:
            return await line_of(process.stderr)

    told = await asyncio.gather(*(first_line(command, arguments) for command, arguments in WAITING.items()))
    assert dict(zip(WAITING, told, strict=True)) == dict.fromkeys(WAITING, f"coterie: waiting: {SENTENCE}")


async def test_a_wait_disturbs_no_result(world: World, alice: Settings, coterie: Coterie) -> None:
    world.faults = without_majority
    ran = await coterie("send", "bob", "hello", "--json", "--timeout", "4")
    assert ran.code == 8
    assert len(ran.out.splitlines()) == 1
    waited, kept = said(ran.err).splitlines()
    assert waited == f"coterie: waiting: {SENTENCE}"
    assert kept.startswith("coterie: the message is not sent yet but kept here")
    assert kept.endswith(SENTENCE)


async def test_who_follows_goes_on_although_the_first_servers_refuse(
    server: Server, alice: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FIRST_PATIENCE", 0.05)
    port = int(server.url.rsplit(":", 1)[1])
    await server.stop()
    following = Connection(alice.servers, session=load_session(alice.session_file), patience=60.0, persistent=True)
    notices: asyncio.Queue[Notice] = asyncio.Queue()
    following.listen(notices.put_nowait)
    following.begin()
    begun = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() - begun < 0.2:
        assert isinstance(await notices.get(), Serverless)
    await server.start(port)
    async with asyncio.timeout(20):
        while isinstance(notice := await notices.get(), Serverless):
            pass
    assert isinstance(notice, Connected)
    await following.close()


async def test_who_gives_up_at_once_does_not_say_that_it_goes_on(alice: Settings) -> None:
    plain = Connection(["ws://127.0.0.1:9"], session=load_session(alice.session_file), patience=0.2)
    notices: list[Notice] = []
    plain.listen(notices.append)
    with pytest.raises(Unavailable, match="connection refused"):
        await plain.start()
    assert [type(notice) for notice in notices] == [Failed]
    await plain.close()
