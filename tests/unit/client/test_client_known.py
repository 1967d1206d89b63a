"""Servers that nodes name: remembered, bounded, tried after one's own and trusted no further."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tests.unit.client.gateway import RING_UID, Server, World, serving
from tests.unit.client.talk import opened, texts, waiting

from coterie_client.client import Client
from coterie_client.errors import Unavailable
from coterie_client.known import MOST_RINGS, MOST_SERVERS, KnownServers
from coterie_client.settings import Settings, load_settings

LOCAL = ("ws://127.0.0.1:7400",)
REMOTE = ("wss://one.example:7400",)


def known(home: Path, servers: tuple[str, ...] = LOCAL, *, insecure: bool = False) -> KnownServers:
    return KnownServers(Settings(home, servers, insecure))


async def test_the_only_server_may_die(world: World, server: Server, alice: Settings, bob: Settings) -> None:
    """Its neighbours, which it has named, take over: in this process and in the next one."""
    async with serving(world, 2) as others:
        world.servers = [other.url for other in others]
        async with opened(alice) as client:
            await client.sender.send("bob", "1")
            await server.kill()
            await client.sender.send("bob", "2")
        async with opened(alice) as client:
            await client.sender.send("bob", "3")
            assert client.connection.url in world.servers
        assert texts(await waiting(Settings(bob.home, (others[0].url,)))) == ["1", "2", "3"]


def test_servers_that_a_flag_names_are_used_alone(tmp_path: Path) -> None:
    for flags, found in (({"servers": LOCAL[0]}, []), ({}, ["ws://127.0.0.1:7500"])):
        settings = load_settings({"home": str(tmp_path), **flags}, {"COTERIE_SERVERS": LOCAL[0]})
        assert settings.servers == LOCAL
        servers = KnownServers(settings)
        servers.remember(RING_UID, ["ws://127.0.0.1:7500"])
        assert servers.of(RING_UID) == found


async def test_ones_own_server_comes_first(world: World, server: Server, alice: Settings) -> None:
    async with serving(world, 3) as others:
        world.servers = [other.url for other in others]
        for _ in range(5):
            async with opened(alice) as client:
                assert client.connection.url == server.url


async def test_who_names_another_ring_himself_is_not_led_back_to_the_old_one(
    world: World, server: Server, alice: Settings
) -> None:
    async with serving(world, 1) as [other], serving(World("1e" * 16)) as [foreign]:
        world.servers = [other.url]
        async with opened(alice):
            pass
        with pytest.raises(Unavailable, match="belongs to another ring"):
            async with Client.open(Settings(alice.home, (foreign.url,))):
                pass


async def test_a_server_that_refuses_is_not_said_to_be_silent(world: World, server: Server, alice: Settings) -> None:
    async with opened(alice, patience=1.5) as client:
        await server.kill()
        with pytest.raises(Unavailable, match="connection refused"):
            await client.sender.send("bob", "x")


@pytest.mark.parametrize(
    ("own", "insecure", "named", "kept"),
    [
        (LOCAL, False, "ws://127.0.0.1:7410", "ws://127.0.0.1:7410"),
        (LOCAL, False, "wss://chat.example", "wss://chat.example:7400"),
        (LOCAL, False, "ws://192.0.2.1:7410", ""),
        (LOCAL, True, "ws://192.0.2.1:7410", "ws://192.0.2.1:7410"),
        (REMOTE, False, "wss://two.example:7400", "wss://two.example:7400"),
        (REMOTE, False, "ws://two.example:7400", ""),
        (REMOTE, True, "ws://two.example:7400", ""),
        (REMOTE, True, "ws://127.0.0.1:22", ""),
        (REMOTE, False, "wss://localhost:7400", ""),
        (REMOTE, False, "wss://[::1]:7400", ""),
        (REMOTE, False, "wss://localhost.:7400", ""),
        (REMOTE, False, "wss://127.1:7400", ""),
        (REMOTE, False, "wss://0x7f.1:7400", ""),
        (REMOTE, False, "wss://2130706433:7400", ""),
        (REMOTE, False, "wss://[::ffff:127.0.0.1]:7400", ""),
        (REMOTE, False, "wss://0:7400", ""),
        (REMOTE, False, "wss://0.0.0.0:7400", ""),
        (REMOTE, False, "wss://[::]:7400", ""),
        (LOCAL, False, "ws://0.0.0.0:7400", ""),
        (LOCAL, False, "ws://127.1:7400", "ws://127.1:7400"),
        (REMOTE, False, "http://two.example:7400", ""),
        (REMOTE, False, "wss://two.example:7400/path", ""),
        (REMOTE, False, "wss://user@two.example:7400", ""),
        (REMOTE, False, "wss://two.example:0", ""),
        (REMOTE, False, "wss://two.example:99999", ""),
        (REMOTE, False, "wss://" + "x" * 500, ""),
        (REMOTE, False, "wss://a\x1b[2J", ""),
        (REMOTE, False, "wss://a\n", ""),
        (REMOTE, False, "", ""),
    ],
)
def test_what_is_remembered_is_trusted_no_further_than_ones_own(
    tmp_path: Path, own: tuple[str, ...], insecure: bool, named: str, kept: str
) -> None:
    known(tmp_path, own, insecure=insecure).remember(RING_UID, [named])
    assert known(tmp_path, own, insecure=insecure).of(RING_UID) == ([kept] if kept else [])


def test_settings_of_today_decide_about_what_was_remembered_yesterday(tmp_path: Path) -> None:
    known(tmp_path, ("ws://192.0.2.1:1",), insecure=True).remember(RING_UID, ["ws://192.0.2.2:1", "wss://b.example:1"])
    assert known(tmp_path, REMOTE).of(RING_UID) == ["wss://b.example:1"]


def test_it_is_bounded_and_private(tmp_path: Path) -> None:
    for ring in range(3 * MOST_RINGS):
        known(tmp_path).remember(f"{ring:032x}", [f"ws://127.0.0.1:{port}" for port in range(1000, 5000)])
    kept = known(tmp_path)
    assert [len(kept.of(f"{ring:032x}")) for ring in range(3 * MOST_RINGS)] == (
        [0] * 2 * MOST_RINGS + [MOST_SERVERS] * MOST_RINGS
    )
    path = tmp_path / "servers.json"
    assert path.stat().st_size < 10_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_rings_servers_are_not_given_out(tmp_path: Path) -> None:
    known(tmp_path).remember(RING_UID, ["ws://127.0.0.1:1"])
    assert known(tmp_path).of("1e" * 16) == []


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b"\xff", b'{"x": []}', b'{"' + RING_UID.encode() + b'": ["' + b"x" * 4000 + b'"]}']
)
def test_a_damaged_file_counts_as_empty_and_is_mended(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "servers.json").write_bytes(damage)
    assert known(tmp_path).of(RING_UID) == []
    known(tmp_path).remember(RING_UID, ["ws://127.0.0.1:1"])
    assert known(tmp_path).of(RING_UID) == ["ws://127.0.0.1:1"]


def test_a_home_that_cannot_be_written_costs_nothing_but_the_memory(tmp_path: Path) -> None:
    known(tmp_path / "nowhere").remember(RING_UID, ["ws://127.0.0.1:1"])
