"""What answers at an admin port may be anything: it is asked once, for so long, and takes so much."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from coterie_client.errors import ClientError, Unavailable
from coterie_client.local.admin import ring_report

Say = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def answering(say: Say) -> Iterator[tuple[str, list[str]]]:
    """Serve until the block ends; give the address and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            with contextlib.suppress(OSError):
                say(self)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()


def elsewhere(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/elsewhere")
    handler.end_headers()


def without_end(piece: bytes, pause: float) -> Say:
    def say(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(pause)

    return say


def test_a_redirect_is_not_followed() -> None:
    with answering(elsewhere) as (url, asked), pytest.raises(ClientError, match="not the admin port"):
        ring_report(url)
    assert asked == ["/api/v1/ring"]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("say", [without_end(b" ", 0.05), without_end(b" " * 65_536, 0)], ids=["drops", "a flood"])
def test_an_answer_without_an_end_is_given_up(say: Say) -> None:
    with answering(say) as (url, _), pytest.raises(ClientError, match="no node answers"):
        ring_report(url, timeout=0.5)


HEAD = b"HTTP/1.1 200 OK\r\n"
RAW = {
    "silence": (b"", b""),
    "an endless series of 100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "an endless status line": (b"HTTP/1.1 200 ", b"O"),
    "a head in drops": (HEAD + b"X: ", b"a"),
    "headers without an end": (HEAD, b"X: a\r\n"),
    "a body in drops": (HEAD + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "chunks in drops": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
}


@contextlib.contextmanager
def raw(first: bytes, again: bytes) -> Iterator[str]:
    """Accept, say something, and go on saying something twenty times a second until the other goes."""
    over = threading.Event()

    def say(to: socket.socket) -> None:
        with to, contextlib.suppress(OSError):
            to.sendall(first)
            while not over.wait(0.05):
                to.sendall(again)

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=say, args=[listening.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=[listening], daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", RAW)
def test_the_time_is_for_the_whole_exchange(kind: str) -> None:
    """It was for each wait on the socket: whoever said a byte now and then held `coterie ring` for ever."""
    with raw(*RAW[kind]) as url:
        begun = time.monotonic()
        with pytest.raises(Unavailable, match=f"no node answers at {url}: .*; start a ring"):
            ring_report(url, timeout=0.5)
        assert time.monotonic() - begun < 5.0


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "said",
    [
        b"\x1b]0;owned\x07\r\n\r\n",
        b"HTTP/1.1 999 \x1b[2J\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        HEAD + b"\x1b[2J: a\r\n\r\n",
        HEAD + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n",
        HEAD + b"Content-Length: -5\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        HEAD + b"Content-Length: 4\r\n\r\n\xff\xfe\x1b[",
    ],
)
def test_whatever_is_said_ends_in_one_clean_sentence(said: bytes) -> None:
    with raw(said, b"") as url, pytest.raises(ClientError) as raised:
        ring_report(url, timeout=1.0)
    assert url in str(raised.value)
    assert str(raised.value).isprintable()
