"""What scripts rely on: the id at once, exit codes of their own, and a retry that does no harm."""

from __future__ import annotations

import json
import uuid

import pytest
from tests.unit.client.conftest import Coterie, Enter, said
from tests.unit.client.gateway import Gateway, Refusal, World

from coterie_client.errors import ConnectionLost, Kept, translate
from coterie_protocol.client_api import Request, Send
from coterie_protocol.errors import CoterieError, ErrorCode


@pytest.mark.parametrize("code", ErrorCode)
def test_what_is_sent_later_by_itself_is_not_to_be_tried_again(code: ErrorCode) -> None:
    for value in (0, 1500):
        error = translate(CoterieError("so it is", code=code, value=value), "bob")
        assert "try again" not in str(Kept(error)), str(error)
        assert "so it is" not in str(error) or "so it is" in str(Kept(error))
    assert "try again" not in str(Kept(ConnectionLost("ws://x")))


async def test_stored_but_not_delivered_is_nine(coterie: Coterie, enter: Enter) -> None:
    await enter("alice")
    await enter("bob")
    for more in ([], ["--json"]):
        ran = await coterie("send", "bob", "x", "--wait", "delivered", "--timeout", "1", *more)
        assert ran.code == 9
        assert "stored" in said(ran.err)
        assert said(ran.err).count("\n") == 1
        assert ran.out.count("\n") == 1
    assert json.loads(ran.out)["state"] == "stored"


async def test_kept_is_eight_and_prints_the_id(world: World, coterie: Coterie, enter: Enter) -> None:
    await enter("alice")
    await enter("bob")

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Send):
            raise Refusal(ErrorCode.UNAVAILABLE, "no quorum")

    world.faults = faults
    plain = await coterie("send", "bob", "one", "--timeout", "1")
    assert plain.code == 8
    assert uuid.UUID(plain.out.strip())
    as_json = await coterie("send", "bob", "two", "--timeout", "1", "--json")
    assert (as_json.code, json.loads(as_json.out)["state"]) == (8, "sending")
    world.faults = lambda gateway, request: None
    await coterie("receive")
    ran = await coterie("receive", "--json", home="bob")
    ids = [json.loads(line)["id"] for line in ran.out.splitlines()]
    assert ids == [plain.out.strip(), json.loads(as_json.out)["id"]]


async def test_a_retry_with_its_id_sends_once(world: World, coterie: Coterie, enter: Enter) -> None:
    await enter("alice")
    await enter("bob")
    known = str(uuid.uuid4())
    broken = True

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Send) and broken:
            raise Refusal(ErrorCode.UNAVAILABLE, "no quorum")

    world.faults = faults
    assert (await coterie("send", "bob", "once", "--id", known, "--timeout", "1")).code == 8
    broken = False
    for _ in range(3):
        ran = await coterie("send", "bob", "once", "--id", known)
        assert (ran.code, ran.out) == (0, known + "\n")
    ran = await coterie("receive", "--json", home="bob")
    assert [json.loads(line)["id"] for line in ran.out.splitlines()] == [known]
    assert (await coterie("send", "bob", "once", "--id", known)).code == 0
    assert (await coterie("receive", "--json", home="bob")).out == ""
    for arguments in (["bob", "another text"], ["alice", "once"]):
        ran = await coterie("send", *arguments, "--id", known)
        assert ran.code == 2
        assert "another message" in ran.err
    assert (await coterie("send", "bob", "x", "--id", "no-id")).code == 2


async def test_lines_of_windows_are_lines(coterie: Coterie, enter: Enter) -> None:
    await enter("alice")
    await enter("bob")
    await coterie("chat", "bob", stdin=b"one\r\ntwo\r\n\r\nthree")
    ran = await coterie("receive", "--json", home="bob")
    assert [json.loads(line)["text"] for line in ran.out.splitlines()] == ["one", "two", "three"]
    await coterie("send", "bob", stdin=b"four\r\nfive\r\n")
    ran = await coterie("receive", home="bob")
    assert ran.out.endswith("alice: four\n    five\n")
