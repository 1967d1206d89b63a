"""What lies on the disk: rights, links, damage, and a login that finds out before it takes a session over."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.client.conftest import PASSWORD, Coterie, Enter, Ran
from tests.unit.client.gateway import RING_UID, World

from coterie_client.acquaintance import Acquaintance
from coterie_client.addresses import check_server
from coterie_client.client import Account
from coterie_client.contacts import Contacts
from coterie_client.database import Database, describe_failures
from coterie_client.errors import ClientError, SessionTaken, UsageError
from coterie_client.history import History
from coterie_client.known import KnownServers
from coterie_client.locks import receiver_lock
from coterie_client.outbox import Outbox
from coterie_client.private import check_ours, open_private
from coterie_client.session import (
    MAX_FILE_BYTES,
    Reserved,
    Session,
    check_taken,
    load_session,
    noting_takeover,
    remove_session,
    save_session,
)
from coterie_client.settings import Settings, check_proxies, load_settings

LOGIN = ("login", "alice", "--password-file", "-")


def clean(ran: Ran, code: int) -> str:
    """Return the one line that a command has ended with."""
    assert ran.code == code, ran
    (line,) = ran.err.splitlines()
    assert line.startswith("coterie: ")
    assert line.isprintable()
    return line


async def grown(coterie: Coterie, world: World) -> None:
    """Make alice's account by the command itself, whose parameters a login accepts."""
    ran = await coterie("register", "alice", "--password-file", "-", stdin=PASSWORD.encode())
    assert ran.code == 0, ran


def placed(home: Path, pattern: str) -> Path:
    """Return the place in a home that a name stands for; * is the ring."""
    (ring,) = (home / "accounts").iterdir()
    return home / pattern.replace("*", ring.name)


# --- login repairs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]", b'{"name":1}', b"[" * 100_000, bytes(100_000)])
async def test_login_repairs_a_damaged_session_file(
    coterie: Coterie, world: World, tmp_path: Path, damage: bytes
) -> None:
    await grown(coterie, world)
    path = tmp_path / "alice" / "session.json"
    path.write_bytes(damage)
    assert "coterie login" in clean(await coterie("receive"), 1)
    ran = await coterie(*LOGIN, stdin=PASSWORD.encode())
    assert (ran.code, ran.err) == (0, "")
    assert (await coterie("receive")).code == 0


async def test_logout_on_this_device_only_needs_no_server(coterie: Coterie, world: World, alice: Settings) -> None:
    ran = await coterie("logout", "--local", COTERIE_SERVERS="ws://127.0.0.1:9")
    assert (ran.code, ran.out) == (0, "alice is logged out here\n")
    assert not alice.session_file.exists()
    clean(await coterie("logout", "--local"), 3)
    alice.session_file.write_bytes(b"")
    assert (await coterie("logout", "--local")).code == 0
    assert not alice.session_file.exists()


async def test_logout_without_a_server_names_the_way_out(coterie: Coterie, alice: Settings) -> None:
    assert "--local" in clean(await coterie("logout", COTERIE_SERVERS="ws://127.0.0.1:9"), 5)
    assert alice.session_file.exists()


@pytest.mark.parametrize("where", ["session.json", "accounts"])
async def test_a_session_that_could_not_be_kept_is_not_taken_over(
    coterie: Coterie, world: World, tmp_path: Path, where: str
) -> None:
    """Something stands in the way, which stops root too; a full or read-only disk fails at the same place."""
    await grown(coterie, world)
    epoch, home = world.accounts["alice"].epoch, tmp_path / "alice"
    if where == "accounts":
        shutil.rmtree(home / where)
        (home / where).write_bytes(b"")
    else:
        (home / where).unlink()
        (home / where).mkdir()
    clean(await coterie(*LOGIN, stdin=PASSWORD.encode()), 1)
    assert world.accounts["alice"].epoch == epoch
    assert not [path for path in home.iterdir() if path.name.startswith(".session-")]


def test_a_full_disk_is_told_before_the_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coterie_client.replacing.os.fsync", full)
    with pytest.raises(ClientError, match="No space left"):
        Reserved(tmp_path / "session.json")
    assert list(tmp_path.iterdir()) == []


async def test_a_login_of_another_account_says_whose_session_was_here(
    coterie: Coterie, world: World, enter: Enter
) -> None:
    await grown(coterie, world)
    ran = await coterie("register", "carol", "--password-file", "-", stdin=PASSWORD.encode())
    assert ran.code == 0
    assert "alice was logged in here" in ran.err
    assert (await coterie("whoami")).out == "carol\n"


# --- whose it is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("", 0o770),
        ("", 0o777),
        ("session.json", 0o622),
        ("session.json", 0o660),
        ("config.toml", 0o666),
        ("accounts", 0o777),
        ("accounts/*", 0o770),
        ("accounts/*/alice.db", 0o666),
        ("accounts/*/alice.db-wal", 0o606),
    ],
)
async def test_what_others_may_write_is_refused_with_the_remedy(
    coterie: Coterie, alice: Settings, name: str, mode: int
) -> None:
    assert (await coterie("contacts")).code == 0
    path = placed(alice.home, name)
    if not path.exists():
        path.write_text("")
    path.chmod(mode)
    line = clean(await coterie("receive"), 2)
    assert f"can be written by others; run: chmod {'700' if path.is_dir() else '600'} {path}" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["", "session.json", "config.toml", "accounts", "accounts/*", "accounts/*/alice.db"])
async def test_what_others_own_is_refused(coterie: Coterie, alice: Settings, name: str) -> None:
    assert (await coterie("contacts")).code == 0
    (alice.home / "config.toml").write_text("")
    path = placed(alice.home, name)
    os.chown(path, 12345, -1)
    assert "belongs to another user (12345)" in clean(await coterie("receive"), 2)


async def test_a_session_that_others_can_read_is_said_and_used(coterie: Coterie, alice: Settings) -> None:
    alice.session_file.chmod(0o644)
    ran = await coterie("receive")
    assert ran.code == 0
    assert "others can read" in ran.err
    assert f"chmod 600 {alice.session_file}" in ran.err


async def test_a_home_that_others_can_only_read_is_used_in_silence(coterie: Coterie, alice: Settings) -> None:
    alice.home.chmod(0o755)
    ran = await coterie("receive")
    assert (ran.code, ran.err) == (0, "")


async def test_servers_that_others_may_have_written_are_not_used(alice: Settings) -> None:
    known = alice.home / "servers.json"
    KnownServers(alice).remember("5a" * 16, ["ws://127.0.0.1:1"])
    known.chmod(0o666)
    assert KnownServers(alice).of("5a" * 16) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["config.toml", "session.json", "servers.json"])
async def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(
    coterie: Coterie, alice: Settings, world: World, name: str
) -> None:
    (alice.home / name).unlink(missing_ok=True)
    os.mkfifo(alice.home / name, 0o600)
    ran = await coterie("receive")
    if name == "servers.json":  # it is only a hint
        assert (ran.code, ran.err) == (0, "")
    else:
        assert "not a file but something else" in clean(ran, 2 if name == "config.toml" else 1)


@pytest.mark.parametrize(
    "make", [lambda path: path.mkdir(), lambda path: path.write_bytes(b" " * (MAX_FILE_BYTES + 1))]
)
async def test_a_session_file_that_is_none_is_said(
    coterie: Coterie, alice: Settings, make: Callable[[Path], object]
) -> None:
    alice.session_file.unlink()
    make(alice.session_file)
    alice.session_file.chmod(0o700)
    assert "cannot read" in clean(await coterie("whoami"), 1)


async def test_a_session_file_may_be_a_link_as_a_cluster_mounts_secrets(coterie: Coterie, alice: Settings) -> None:
    alice.session_file.rename(alice.home / "real.json")
    alice.session_file.symlink_to("real.json")
    assert (await coterie("whoami")).out == "alice\n"


DAMAGES = ["time = 'x'", "epoch = 'x'", "counter = 'x'", "text = x'ff'", "text = 5", "peer = 5", "state = 'x'"]
DAMAGES += ["id = 'x'", "prev = 5", "body = 'x'", "archived = 'x'"]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_message_takes_no_other_with_it(
    coterie: Coterie, alice: Settings, bob: Settings, damage: str
) -> None:
    await coterie("send", "bob", "one")
    await coterie("send", "bob", "two")
    (path,) = alice.home.glob("accounts/*/alice.db")
    with contextlib.closing(sqlite3.connect(path)) as sql:
        sql.execute(f"UPDATE messages SET {damage} WHERE text = 'one'")
        sql.commit()
    ran = await coterie("history", "bob")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.rstrip().endswith("two")
    assert (await coterie("history", "bob", "--json", "--search", "w")).code == 0
    assert (await coterie("send", "bob", "three")).code == 0
    assert (await coterie("receive")).code == 0


async def test_another_programs_database_is_said_with_the_remedy(coterie: Coterie, alice: Settings) -> None:
    await coterie("contacts")
    (path,) = alice.home.glob("accounts/*/alice.db")
    with contextlib.closing(sqlite3.connect(path)) as sql:
        sql.execute("DROP TABLE messages")
    assert "move the damaged file away" in clean(await coterie("history", "bob"), 1)


def test_nothing_is_nobodys(tmp_path: Path) -> None:
    check_ours(tmp_path / "nothing", "it")


# --- links and rights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [os.symlink, lambda to, at: os.mkfifo(at), lambda to, at: os.mkdir(at)])
def test_a_lock_is_a_file_and_no_link(tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    victim, lock = tmp_path / "victim", tmp_path / "a.lock"
    victim.write_text("precious")
    make(victim, lock)
    with pytest.raises(ClientError, match="perhaps a link; remove it"), receiver_lock(lock):
        pass
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("umask", ["000", "022", "777"])
async def test_all_that_is_made_is_private_whatever_the_umask(
    coterie: Coterie, world: World, tmp_path: Path, enter: Enter, umask: str
) -> None:
    await enter("bob")
    before = os.umask(int(umask, 8))
    try:
        ran = await coterie("register", "alice", "--password-file", "-", home="deep/er", stdin=PASSWORD.encode())
        assert ran.code == 0, ran
        assert (await coterie("send", "bob", "x", home="deep/er")).code == 0
        assert (await coterie("receive", home="deep/er")).code == 0
    finally:
        os.umask(before)
    made = [tmp_path / "deep", *(tmp_path / "deep").rglob("*")]
    assert len(made) > 5
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_file_that_is_made_under_any_umask_is_its_owners(tmp_path: Path) -> None:
    for umask in (0, 0o777):
        before = os.umask(umask)
        try:
            os.close(open_private(tmp_path / str(umask)))
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / str(umask)).stat().st_mode) == 0o600


def test_a_session_is_kept_whole(tmp_path: Path, alice: Settings) -> None:
    session = load_session(alice.session_file)
    save_session(tmp_path / "s.json", session)
    assert load_session(tmp_path / "s.json") == session
    assert stat.S_IMODE((tmp_path / "s.json").stat().st_mode) == 0o600


# --- names of servers, homes and proxies ----------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["~nobody-of-that-name/x", "a\0b"])
def test_a_home_that_cannot_be_is_a_usage_error(home: str) -> None:
    with pytest.raises(UsageError, match="COTERIE_HOME"):
        load_settings({"home": home}, {})


@pytest.mark.parametrize(
    "url", ["ws://127.0.0.1:0", "ws://127.0.0.1@evil.example:7400", "wss://user:word@host:1", "ws://127.0.0.1:1#x"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not a server's address"):
        check_server(url, insecure=True)


@pytest.mark.parametrize(
    ("url", "environ"),
    [
        ("wss://chat.example:7400", {"HTTPS_PROXY": "http://proxy:3128"}),
        ("wss://chat.example:7400", {"https_proxy": "http://proxy:3128", "NO_PROXY": "other.example"}),
        ("wss://chat.example:7400", {"ALL_PROXY": "socks5://127.0.0.1:9050"}),
        ("ws://chat.example:7400", {"HTTP_PROXY": "http://proxy:3128"}),
    ],
)
def test_a_proxy_is_not_passed_over_in_silence(url: str, environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"set NO_PROXY=chat\.example"):
        check_proxies([url], environ)


@pytest.mark.parametrize(
    ("url", "environ"),
    [
        ("ws://127.0.0.1:7400", {"HTTP_PROXY": "http://proxy:3128", "ALL_PROXY": "http://proxy:3128"}),
        ("ws://localhost:7400", {"HTTP_PROXY": "http://proxy:3128"}),
        ("ws://[::1]:7400", {"ALL_PROXY": "http://proxy:3128"}),
        ("wss://chat.example:7400", {"HTTP_PROXY": "http://proxy:3128"}),
        ("wss://chat.example:7400", {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "chat.example"}),
        ("wss://chat.example:7400", {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": ".example"}),
        ("wss://chat.example:7400", {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}),
        ("wss://chat.example:7400", {"HTTPS_PROXY": ""}),
    ],
)
def test_what_needs_no_proxy_is_left_alone(url: str, environ: dict[str, str]) -> None:
    check_proxies([url], environ)


async def test_a_command_says_that_it_knows_no_proxy(coterie: Coterie, alice: Settings) -> None:
    env = {"COTERIE_SERVERS": "wss://chat.example:7400", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    assert "HTTPS_PROXY is set" in clean(await coterie("receive", **env), 2)
    assert (await coterie("history", "bob", **env)).code == 0


def test_a_pipe_in_place_of_the_takeover_note_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "taken.json")
    check_taken(tmp_path / "session.json", Session("alice", "ab" * 16, 1, "A" * 43 + "="))


@pytest.mark.parametrize("arguments", [["presence", "alice"], ["send", "alice", "hi"], ["receive"], ["logout"]])
async def test_every_command_that_learns_of_a_takeover_says_so_or_notes_it(
    arguments: list[str], coterie: Coterie, enter: Enter, alice: Settings
) -> None:
    await enter("alice", home="phone", again=True)
    ran = await coterie(*arguments)
    if arguments == ["logout"]:
        assert (ran.code, alice.session_file.exists()) == (0, False)
    else:
        clean(ran, 7)
        clean(await coterie("whoami"), 7)


def test_a_later_login_here_is_not_logged_out_by_an_earlier_session(tmp_path: Path) -> None:
    path = tmp_path / "session.json"
    token = base64.b64encode(bytes(32)).decode()
    earlier, later = (Session("alice", RING_UID, epoch, token) for epoch in (1, 2))
    save_session(path, later)
    assert not remove_session(path, earlier)
    assert load_session(path) == later
    with pytest.raises(SessionTaken, match="later login on this device"), noting_takeover(path, earlier):
        raise SessionTaken("alice", 7)
    assert not path.with_name("taken.json").exists()
    assert remove_session(path, later)
    assert remove_session(path, None)


def test_a_full_disk_is_told_as_one_whatever_sqlite_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> str:
        with pytest.raises(ClientError) as raised, describe_failures(tmp_path / "alice.db"):
            raise sqlite3.OperationalError("disk I/O error")
        return str(raised.value)

    assert "check the directory and its rights" in failing()
    disk = os.statvfs_result((4096, 4096, 100, 0, 0, 10, 10, 10, 0, 255))
    monkeypatch.setattr("coterie_client.database.os.statvfs", lambda _: disk)
    assert "free some disk space" in failing()


def test_values_of_other_kinds_in_the_database_take_no_command_along(tmp_path: Path) -> None:
    with Database(tmp_path / "alice.db") as database:
        contacts = Contacts(database)
        contacts.add("bob", "", 1)
        with database.write() as sql:
            sql.execute("INSERT INTO contacts VALUES (?, ?, ?)", (b"\xff", "", 0))
            sql.execute("INSERT INTO messages VALUES (1, '', x'00', x'ff', 0, 0, x'', 0, 'text', x'', 'stored', 0, 0)")
        session = Session("alice", RING_UID, 1, "")
        account = Account(session, database, History(database), Outbox(database), contacts, tmp_path / "lock")
        assert Acquaintance(account).called("bob") == "bob"
