"""What is kept is told in one line, and a session that was taken over is known to be."""

from __future__ import annotations

import pytest
from tests.unit.client.conftest import Coterie, Enter, said
from tests.unit.client.gateway import Gateway, Refusal, Server, World

from coterie_client.settings import Settings
from coterie_protocol.client_api import Request, Send
from coterie_protocol.errors import ErrorCode


async def test_kept_messages_are_told_in_one_line(coterie: Coterie, server: Server, alice: Settings) -> None:
    await server.stop()
    for earlier in range(3):
        ran = await coterie("send", "bob", f"down-{earlier}")
        assert ran.code == 8
        (line,) = said(ran.err).splitlines()
        assert line.count("connection refused") == 1
        assert ("kept here with" in line) == bool(earlier)
    assert line.startswith("coterie: the message is not sent yet but kept here with 2 earlier ones, and the next")


async def test_a_takeover_with_kept_messages_is_told_in_one_line_and_remembered(
    coterie: Coterie, world: World, enter: Enter, alice: Settings
) -> None:
    await enter("bob")

    def faults(_: Gateway, request: Request) -> None:
        if isinstance(request, Send):
            raise Refusal(ErrorCode.UNAVAILABLE)

    world.faults = faults
    for text in ("one", "two"):
        assert (await coterie("send", "bob", text, "--timeout", "1")).code == 8
    assert (await coterie("whoami")).out == "alice\n"
    await enter("alice", home="phone", again=True)
    ran = await coterie("send", "bob", "three")
    assert ran.code == 7
    (line,) = said(ran.err).splitlines()
    assert "kept here with 2 earlier ones" in line
    assert line.count("taken over") == 1
    for arguments in (["whoami"], ["whoami", "--json"]):
        ran = await coterie(*arguments)
        assert (ran.code, ran.out) == (7, "")
        assert "taken over" in ran.err
        assert "coterie login alice" in ran.err
    assert (await coterie("whoami", home="phone")).code == 0
    await enter("alice", again=True)
    assert (await coterie("whoami")).code == 0


@pytest.mark.slow
async def test_why_messages_are_kept_is_told_once_in_an_outage(coterie: Coterie, world: World, enter: Enter) -> None:
    await enter("alice")
    await enter("bob")

    def faults(_: Gateway, request: Request) -> None:
        if isinstance(request, Send):
            raise Refusal(ErrorCode.UNAVAILABLE)

    world.faults = faults
    ran = await coterie("chat", "bob", stdin=b"one\ntwo\nthree\n")
    told = [line for line in ran.err.splitlines() if "kept and sent later" in line]
    assert [line.partition("later")[2] != "" for line in told] == [True, False, False]
    assert ran.code == 8
