"""Two people want one name in two halves of a partition: one has it, or both are told that it cannot be decided."""

from __future__ import annotations

import asyncio
import base64
import os
from collections import Counter
from pathlib import Path

import pytest
from tests.cluster.nemesis import network
from tests.cluster.nemesis.cluster import Cluster
from tests.cluster.nemesis.faults import across

from coterie_client.connection import Connection
from coterie_client.errors import Unavailable
from coterie_protocol.client_api import Kdf, Lookup, LookupReply, Register
from coterie_protocol.errors import CoterieError, ErrorCode

NAMES = 12
PATIENCE = 4.0
"""Seconds until somebody who gets no answer is told so."""


async def claim(server: str, name: str, keys: bytes) -> str:
    """Try to register a name; return what came of it: "mine", "taken", or "unavailable"."""
    auth = base64.b64encode(os.urandom(32)).decode()
    connection = Connection([server], patience=PATIENCE)
    try:
        await connection.start()
        await connection.call(Register(name, Kdf(8, 1, 1), auth, keys, b"", os.urandom(16)), patience=PATIENCE)
    except CoterieError as error:
        return {ErrorCode.NAME_TAKEN: "taken", ErrorCode.UNAVAILABLE: "unavailable"}[error.wire_code]
    except Unavailable:
        return "unavailable"
    else:
        return "mine"
    finally:
        await connection.close()


async def holder(server: str, name: str) -> bytes:
    """Return the keys of who has a name, b"" for nobody."""
    connection = Connection([server], patience=PATIENCE)
    try:
        await connection.start()
        reply = await connection.call(Lookup(name), patience=PATIENCE)
    except CoterieError as error:
        return {ErrorCode.NO_SUCH_USER: b""}[error.wire_code]
    else:
        assert isinstance(reply, LookupReply)
        return reply.keys
    finally:
        await connection.close()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(bool(network.why_not()), reason=network.why_not())
async def test_one_name_in_two_halves(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "ring", 5, None)
    try:
        await cluster.begin()
        names = [node.name for node in cluster.nodes]
        cluster.network.cut("halves", across(names[:2], names[2:], both=True))
        few, many = cluster.servers[0], cluster.servers[3]
        wanted = [f"name-{number}" for number in range(NAMES)]
        outcomes = await asyncio.gather(
            *(asyncio.gather(claim(few, name, b"few"), claim(many, name, b"many")) for name in wanted)
        )
        cluster.network.heal("halves")
        assert await cluster.whole(60.0) == ""
        for name, (one, other) in zip(wanted, outcomes, strict=True):
            assert (one, other) != ("mine", "mine"), f"{name} was given to both"
            found = {await holder(server, name) for server in cluster.servers}
            assert len(found) == 1, f"nodes disagree on who has {name}: {found}"
            if "mine" in (one, other):
                assert found == {b"few" if one == "mine" else b"many"}
        # Some slots have their majority in one half, and some in the other.
        assert Counter(outcome for pair in outcomes for outcome in pair)["mine"] >= NAMES // 2
    finally:
        await cluster.end()
