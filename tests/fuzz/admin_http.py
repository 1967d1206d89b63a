"""Requests to the admin port, from somebody who has no token."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from tests.fuzz import shapes
from tests.fuzz.engine import Found, Target
from tests.fuzz.place import Place

from coterie_node.api.admin import admin_app
from coterie_node.api.metrics.exposition import Exposition

HEADERS = (
    "Authorization",
    "Host",
    "Accept",
    "Content-Type",
    "Content-Length",
    "Origin",
    "Last-Event-ID",
    "Transfer-Encoding",
)
TOKENS = (
    b"",
    b"Bearer ",
    b"Bearer wrong",
    b"Bearer \xff\xfe",
    "Bearer \u00e4".encode(),
    b"Bearer \xed\xa0\x80",
    b"Basic Og==",
)
VALUES = (
    b"", b"Bearer wrong", b"Bearer \xff\xfe", b"evil.example", b"localhost", b"text/html", b"application/json",
    b"text/event-stream", b"-1", b"99999999999999999999", b"chunked", b"null", b"\xed\xa0\x80",
)  # fmt: skip
BODIES = (b'{"position": 9223372036854775808}', b'{"position": "x"}', b'{"accept_loss": true}', b"[" * 5000)
FAILED = 500
WAITS = 0.3
"""Seconds for an answer: a request that is cut off gets none, and is not what is looked for."""


def routes() -> list[tuple[str, str]]:
    """Return (method, path) of everything that the admin port answers, as its application lists them."""
    view: Any = type("View", (), {"readiness": None, "watch": lambda *_: None})()
    exposition: Any = object.__new__(Exposition)
    found = {
        (one.method, one.resource.canonical)
        for one in admin_app(view, None, exposition).router.routes()
        if one.resource
    }
    return sorted(one for one in found if one[0] != "HEAD")


class AdminHttp(Target):
    """Every path, with hostile headers, queries and bodies; some of it no HTTP at all."""

    name = "admin-http"
    about = "HTTP requests without the token -> a whole node's admin port"
    shrinks = False

    def cases(self) -> st.SearchStrategy[bytes]:
        texts = st.one_of(st.sampled_from(shapes.TEXTS), st.text(max_size=20)).map(_percent)
        odd = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=12)
        value = st.one_of(st.sampled_from(VALUES), odd.map(lambda text: text.encode("latin-1")))
        token = st.one_of(st.sampled_from(TOKENS), odd.map(lambda text: b"Bearer " + text.encode("latin-1")))
        headers = st.tuples(
            st.lists(st.tuples(st.sampled_from(HEADERS), value), max_size=2),
            st.lists(st.tuples(st.just("Authorization"), token), max_size=1),
        ).map(lambda some: some[0] + some[1])
        body = st.one_of(st.just(b""), st.binary(max_size=60), st.sampled_from(BODIES))
        query = st.lists(st.tuples(st.sampled_from(("state", "slot", "name", "x")), texts), max_size=2)
        request = st.builds(_request, st.sampled_from(routes()), query, texts, headers, body)
        return st.one_of(*[request] * 7, shapes.damaged(request))

    def begin(self, directory: Path) -> None:
        self.place = Place(directory)
        self.place.start()
        self._fed = 0

    def end(self) -> None:
        self.place.stop()

    def feed(self, case: bytes) -> None:
        self._fed += 1
        status = self.place.run(self._feed(case))
        if status == FAILED:
            raise Found("it is answered 500")
        self.place.check()

    async def _feed(self, case: bytes) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.place.admin)
        line = b""
        try:
            writer.write(case)
            async with asyncio.timeout(WAITS):
                line = await reader.readline()
        except (ConnectionError, TimeoutError):
            pass  # It was ended, or the rest of a request is waited for.
        finally:
            writer.transport.abort()
        await self.place.alive()
        if self._fed % 8 == 0:
            await self.place.honest()
        parts = line.split()
        return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


def _percent(text: str) -> bytes:
    return b"".join(b"%%%02x" % one for one in text.encode("utf-8", "surrogatepass")[:200])


def _request(
    route: tuple[str, str], query: list[tuple[str, bytes]], inside: bytes, headers: list[tuple[str, bytes]], body: bytes
) -> bytes:
    method, path = route
    target = b"/".join(inside if part.startswith("{") else part.encode() for part in path.split("/"))
    if query:
        target += b"?" + b"&".join(key.encode() + b"=" + value for key, value in query)
    lines = [b"%s %s HTTP/1.1" % ((b"POST" if method == "*" else method.encode()), target)]
    given = {name for name, _ in headers}
    if "Host" not in given:
        lines.append(b"Host: localhost")
    if "Content-Length" not in given and "Transfer-Encoding" not in given:
        lines.append(b"Content-Length: %d" % len(body))
    lines += [name.encode() + b": " + value.replace(b"\r", b"").replace(b"\n", b"") for name, value in headers]
    return b"\r\n".join([*lines, b"Connection: close", b"", body])
