"""Bad input: one line with the remedy, the right exit code, nothing lost, and the node stays up."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import resource
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import pytest
from tests.cluster.conftest import MakeRing, MakeShell
from tests.cluster.harness import Ring
from tests.cluster.people import person, read_all

from coterie_client.local import admin
from coterie_client.local.process import node_program
from coterie_protocol.client_api import CLIENT_PATH, MAX_CLIENT_FRAME_BYTES, MAX_PEER_FRAME_BYTES, PEER_PATH

# --- What people type -------------------------------------------------------------------------------------------


@pytest.fixture
def alice(shell: MakeShell, name: Callable[[str], str]) -> tuple[MakeShell, str]:
    alice = name("alice")
    shell(alice).run("register", alice)
    return shell, alice


@pytest.mark.parametrize("bad", ["", "two words", "bell\x07", "\u2164", "x" * 65, "\U0001f600", "a\u0300\u0300 "])
def test_names_that_precis_refuses(shell: MakeShell, bad: str) -> None:
    error = shell("somebody").run("register", bad, code=2)
    assert "name" in error


def test_a_taken_name(alice: tuple[MakeShell, str]) -> None:
    shell, name = alice
    error = shell("somebody else").run("register", name, code=1)
    assert "is taken" in error
    assert f"coterie login {name}" in error


def test_a_wrong_password(alice: tuple[MakeShell, str]) -> None:
    shell, name = alice
    error = shell("elsewhere").run("login", name, code=3, COTERIE_PASSWORD="quite another one")
    assert "password" in error
    assert shell(name).run("whoami") == f"{name}\n"
    shell(name).run("send", name, "my session has not suffered")


def test_unknown_people(alice: tuple[MakeShell, str]) -> None:
    shell, name = alice
    assert "nobody is called 'nobody-at-all'" in shell(name).run("send", "nobody-at-all", "hello?", code=4)
    assert "nobody is called" in shell("elsewhere").run("login", "nobody-at-all", code=4)
    assert shell(name).run("history", "nobody-at-all") == ""


def test_messages_that_are_none(alice: tuple[MakeShell, str]) -> None:
    shell, name = alice
    assert "empty" in shell(name).run("send", name, code=2)
    assert "empty" in shell(name).run("send", name, "", code=2)
    assert "65536" in shell(name).run("send", name, stdin=b"x" * 1_000_000, code=2)
    assert "UTF-8" in shell(name).run("send", name, stdin=b"\xff\xfe caf\xe9", code=2)
    assert shell(name).run("receive") == ""


def test_without_a_session(shell: MakeShell) -> None:
    assert "coterie login" in shell("stranger").run("send", "somebody", "hello", code=3)


def test_short_passwords_and_usage(shell: MakeShell) -> None:
    assert "at least 8" in shell("stranger").run("register", "stranger", code=2, COTERIE_PASSWORD="short")
    assert "--help" in shell("stranger").run("sned", "x", code=2)


# --- Servers that are none -----------------------------------------------------------------------------------------


class Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>It works!</html>")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def web_server() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_server_that_is_not_a_node(shell: MakeShell, web_server: int) -> None:
    error = shell("stranger").run("register", "stranger", code=5, COTERIE_SERVERS=f"ws://127.0.0.1:{web_server}")
    assert str(web_server) in error


def test_no_server(shell: MakeShell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = shell("stranger").run("register", "stranger", code=5, COTERIE_SERVERS=f"ws://127.0.0.1:{port}")
    assert str(port) in error


# --- What strangers send to a node ---------------------------------------------------------------------------------

GARBAGE = [b"", b"\x00", b"\xc1" * 50, b"\x91" * 3000, b"\xdd\xff\xff\xff\xff", b"\x91\x92\x01\x92\xcc\xfe\x01", b"{}"]

RAW = [b"\x16\x03\x01" + os.urandom(500), b"GET / HTTP/1.1\r\n" + b"a" * 100_000, b"\r\n\r\n", b"\x00" * 9]


async def closes(session: aiohttp.ClientSession, url: str, data: bytes) -> None:
    """Send a frame and wait until the node has closed the connection."""
    async with session.ws_connect(url, max_msg_size=0) as socket:
        try:
            await socket.send_bytes(data)
            while (message := await socket.receive(timeout=10)).type is aiohttp.WSMsgType.BINARY:
                pass
        except (aiohttp.ClientError, ConnectionError):
            return  # it was quicker than we
        assert message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.PING), message


@pytest.mark.parametrize("path", [CLIENT_PATH, PEER_PATH])
async def test_garbage_in_frames(ring: Ring, path: str) -> None:
    node = ring.nodes[1]
    port = node.place.client_port if path == CLIENT_PATH else node.place.peer_port
    limit = MAX_CLIENT_FRAME_BYTES if path == CLIENT_PATH else MAX_PEER_FRAME_BYTES
    async with aiohttp.ClientSession() as session:
        for data in (*GARBAGE, b"x" * (limit + 1)):
            await closes(session, f"ws://127.0.0.1:{port}{path}", data)
    assert node.running
    assert (await asyncio.to_thread(admin.readiness, node.place.admin_url)).ready


def test_garbage_on_sockets(ring: Ring) -> None:
    node = ring.nodes[2]
    for port in (node.place.client_port, node.place.peer_port, node.place.admin_port):
        for data in (
            b"\x16\x03\x01" + os.urandom(500),
            b"GET / HTTP/1.1\r\n" + b"a" * 100_000,
            b"\r\n\r\n",
            b"\x00" * 9,
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
                try:
                    raw.sendall(data)
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(65536):
                        pass
                except ConnectionError:
                    pass  # refused in the middle, which is as good
        plain = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        plain.request("GET", "/nowhere")
        assert plain.getresponse().status == 404
        plain.close()
    assert node.running
    assert admin.readiness(node.place.admin_url).ready


# --- Nodes that cannot run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["client", "peer", "admin"])
def test_a_port_in_use(ring: Ring, tmp_path: Path, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [
            *(sys.executable, *node_program(), "run", "--data-dir", str(tmp_path / "node")),
            *("--seed", f"127.0.0.1:{ring.nodes[0].place.peer_port}"),
            *("--listen-client", "127.0.0.1:0", "--listen-peer", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0"),
            *(f"--listen-{which}", f"127.0.0.1:{port}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(rf"^coterie-node: .*{port}.*--listen-{which}", done.stderr, re.MULTILINE), done.stderr


def test_a_store_of_a_newer_schema(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(1)
    ring.start()
    # Not ready, for one node alone forms no ring of three; but its store is there.
    while not list(ring.nodes[0].place.data.glob("*.db")):
        assert ring.nodes[0].running
    ring.nodes[0].terminate()
    with sqlite3.connect(next(ring.nodes[0].place.data.glob("*.db"))) as store:
        store.execute("PRAGMA user_version = 99999")
    store.close()
    ring.start()
    assert ring.nodes[0].wait(15) != 0
    assert "newer" in ring.nodes[0].last_words


async def test_a_node_of_another_ring_is_refused(make_ring: MakeRing, tmp_path: Path) -> None:
    one, two = make_ring(3), make_ring(3)
    one.start()
    await one.ready()
    two.start()
    await two.ready()
    alice = await person(two, tmp_path, "alice")
    moved = two.nodes[1]
    moved.terminate()
    # Its data directory goes to a node of the first ring: told which ring to join it refuses to start ...
    stranger = one.add()
    moved.place.data.rename(stranger.place.data)
    stranger.start("--ring-uid", one.report().ring_uid)
    assert stranger.wait(30) == 1
    assert re.search(r"^coterie-node: .* ring .*", stranger.last_words), stranger.last_words
    # ... and otherwise it says loudly whom it met, and nobody takes it in.
    stranger.start()
    await stranger.logs("another ring", 15.0)
    assert len(one.report().members) == 3
    stranger.terminate()
    await one.ready()
    stranger.place.data.rename(moved.place.data)
    moved.start()
    await two.ready()
    async with alice.online() as client:
        await client.sender.send("alice", "nothing has happened")


async def test_a_full_disk(make_ring: MakeRing, tmp_path: Path) -> None:
    """No process may write files any further, as if the disk were full: nothing is acknowledged, nothing is lost."""
    ring = make_ring(3)
    ring.start()
    await ring.ready()
    alice = await person(ring, tmp_path, "alice")
    async with alice.online(patience=60.0) as client:
        for i in range(20):
            await client.sender.send("alice", f"before {i}")
        limits = {node: resource.prlimit(node.pid, resource.RLIMIT_FSIZE) for node in ring.nodes}
        for node, (_, hard) in limits.items():
            resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (1, hard))
        _, task = client.sender.submit("alice", "during", patience=60.0)
        for node in ring.nodes:
            found = await node.until(lambda found: not found.ready, 10.0)
            assert any("the store cannot be written" in reason for reason in found.reasons), found
        assert not task.done()
        for node, before in limits.items():
            resource.prlimit(node.pid, resource.RLIMIT_FSIZE, before)
        await task
    assert all(node.running for node in ring.nodes)
    await ring.ready()
    assert await read_all(alice, 21, 30.0) == [*(f"before {i}" for i in range(20)), "during"]
