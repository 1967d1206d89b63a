"""A poisoned frame, report or watcher at the outer ports: what stands beside it is answered as ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.unit.api.lone_node import LoneNode, connected, lone_node
from tests.unit.api.town import Place

from coterie_protocol.admin_messages import MemberQuery
from coterie_protocol.client_api import ClientFrame, Error, Lookup, LookupReply, Request, Send, Stored
from coterie_protocol.errors import ErrorCode
from coterie_protocol.frames import encode
from coterie_protocol.identifiers import message_id


def mid(number: int) -> bytes:
    return message_id(1, number.to_bytes(10, "big"))


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[LoneNode]:
    async with lone_node(tmp_path / "data") as one:
        yield one


@pytest.mark.parametrize("unencodable", ["\ud800", object()], ids=["surrogate", "object"])
async def test_a_reply_without_a_form_on_the_wire_is_internal_and_its_neighbours_arrive(
    node: LoneNode, unencodable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coterie_node.chat.gateway.conversation import Conversation

    take = Conversation.take

    def odd(self: Conversation, frame: ClientFrame) -> None:
        if isinstance(frame.body, Lookup) and frame.body.name == "odd":
            self.unanswered += 1
            self._answer(frame.id, LookupReply(unencodable, b"", 0))
        else:
            take(self, frame)

    monkeypatch.setattr(Conversation, "take", odd)
    async with connected(node.url) as alice:
        await alice.hello()
        await alice.register("alice")
        requests: list[Request] = [Send("alice", mid(1), b"a"), Lookup("odd"), Send("alice", mid(2), b"b")]
        with capture_logs() as logs:
            frames = [ClientFrame(100 + at, request) for at, request in enumerate(requests)]
            await alice.socket.send_bytes(encode(frames))
            replies: dict[int, Any] = {}
            while len(replies) < 3:
                replies.update({frame.id: frame.body for frame in await alice.frames() if frame.id >= 100})
        assert [type(replies[number]) for number in (100, 101, 102)] == [Stored, Error, Stored]
        assert replies[101].code == ErrorCode.INTERNAL
        assert any(entry.get("encoding") == "LookupReply" for entry in logs)
        assert isinstance(await alice.ask(Send("alice", mid(3), b"c"), Stored), Stored)


async def test_a_member_whose_report_fails_hides_no_other(town: list[Place]) -> None:
    peers = town[0].view._peers
    ask = peers.request

    async def odd(uid: Any, message: Any, timeout: float, *, bulk: bool = False) -> Any:
        if uid == town[2].uid and isinstance(message, MemberQuery):
            raise ZeroDivisionError
        return await ask(uid, message, timeout, bulk=bulk)

    peers.request = odd  # type: ignore[method-assign]
    with capture_logs() as logs:
        report = await town[0].view.ring_report()
    states = {member.name: member.state for member in report.members}
    assert states == {"node-0": "ready", "node-1": "ready", "node-3": "ready", "node-2": "unreachable"}
    assert any(entry.get("peer") == town[2].uid for entry in logs)


async def test_a_member_that_claims_slots_that_are_not_counts_for_none(town: list[Place]) -> None:
    answer = town[2].dispatcher._requests[MemberQuery]

    async def odd(sender: Any, message: Any) -> Any:
        return msgspec.structs.replace(await answer(sender, message), acting=b"\xff" * 4096)

    town[2].dispatcher.on_request(MemberQuery, odd)
    assert (await town[0].view.ring_report()).slots_unowned == 0
