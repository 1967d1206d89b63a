"""What answers at an admin port may be anything: it is asked once, for so long, and takes so much."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from coterie_client.errors import ClientError
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
