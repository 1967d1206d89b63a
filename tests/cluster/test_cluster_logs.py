"""What stands in the logs of real nodes, at their most talkative, and what must not."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import aiohttp
import pytest
from tests.cluster.conftest import MakeRing
from tests.cluster.people import CHEAP, PASSWORD, Inbox, two_people
from tests.cluster.scraping import scrapes

from coterie_client import kdf
from coterie_client.connection import Connection
from coterie_client.errors import ClientError
from coterie_client.session import login
from coterie_protocol.client_api import MAX_MESSAGE_BODY_BYTES, Send
from coterie_protocol.errors import CoterieError

TEXT = "the eagle lands at noon"


async def test_no_secret_and_no_text_is_logged_or_measured(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(3, COTERIE_NODE_LOG_LEVEL="debug", COTERIE_NODE_LOG_FORMAT="json")
    alice, bob = await two_people(ring, tmp_path)
    root = kdf.root_key(PASSWORD, ring_uid=alice.session.ring_uid, name="alice", kdf=CHEAP)
    token = ring.place.token_file.read_text().strip()
    secrets = {
        "password": PASSWORD.encode(),
        "root key": root,
        "auth key": base64.b64decode(kdf.auth_key(root)),
        "alice's token": alice.session.token,
        "bob's token": bob.session.token,
        "admin token": token.encode(),
        "text": TEXT.encode(),
    }
    async with Inbox(bob) as inbox, alice.online() as sender:
        await sender.sender.send("bob", TEXT)
        await inbox.reach(1, 15.0)
    async with Connection(alice.settings.servers, patience=10.0) as connection:
        with pytest.raises(ClientError):
            await login(connection, "alice", PASSWORD + "!", minimum=CHEAP)
        secrets["second token"] = (await login(connection, "alice", PASSWORD, minimum=CHEAP)).token
        with pytest.raises(CoterieError):
            await connection.call(Send("bob", b"\0" * 16, TEXT.encode() + bytes(MAX_MESSAGE_BODY_BYTES)))
    # What changes and what fails: a leave, a death, a return.
    for given in (token, token + "x"):
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {given}"}) as session,
            session.post(f"{ring.nodes[0].place.admin_url}/api/v1/cancel-leave") as response,
        ):
            assert response.status == (202 if given == token else 401)
    ring.nodes[2].kill()
    await ring.nodes[0].logs("node is dead", 15.0)
    ring.nodes[2].start()
    await ring.ready()
    measured = [one.text for one in await scrapes(ring.nodes)]
    ring.stop()
    levels = set()
    for node in ring.nodes:
        log = node.place.log.read_text()
        events = [json.loads(line) for line in log.splitlines()]
        assert {"belongs to a ring", "takes clients", "link up"} <= {event["event"] for event in events}
        levels |= {event["level"] for event in events}
        for what, secret in secrets.items():
            for form in forms(secret):
                assert form not in log, f"{node.name} logs the {what}"
    assert "debug" in levels, "logs that are not talkative prove little"
    for text in measured:
        assert "coterie_messages_total" in text
        assert not any(form in text for secret in secrets.values() for form in forms(secret))
        assert "alice" not in text


def forms(secret: bytes) -> list[str]:
    """Return the ways in which bytes may stand in a log."""
    shown = repr(secret)[2:-1]
    based = [encode(secret).decode().rstrip("=") for encode in (base64.b64encode, base64.urlsafe_b64encode)]
    return [secret.hex(), *based, shown, json.dumps(shown)[1:-1]]
