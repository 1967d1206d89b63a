"""Who may ask at the admin port: a page that has pointed its name here may not, and no other site's page may."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.rawhttp import ask, connected
from tests.unit.api.stage import Stage

from coterie_node.api.admin import admin_app
from coterie_node.assembly.node import ADMIN_LIMITS
from coterie_node.config.settings import Address
from coterie_node.http.listening import Port

TOKEN = "a-long-secret"
READABLE = [
    "/", "/livez", "/readyz", "/api/v1/node", "/api/v1/ring", "/api/v1/events", "/api/v1/lookup?name=bob",
    "/page/model.js", "/nowhere",
]  # fmt: skip


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = admin_app(Stage(), TOKEN, names=["ring.example.org"])
    port = Port(app, Address("127.0.0.1", 0), "the admin API", "--listen-admin", ADMIN_LIMITS)
    yield await port.start()
    await port.close()


def request(path: str, *lines: str, method: str = "GET", host: str | None = "localhost", version: str = "1.1") -> bytes:
    named = [] if host is None else [f"Host: {host}"]
    head = [f"{method} {path} HTTP/{version}", *named, "Connection: close", *lines]
    return ("\r\n".join(head) + "\r\n\r\n").encode()


@pytest.mark.parametrize("path", READABLE)
async def test_dns_rebinding_reads_nothing(port: int, path: str) -> None:
    for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", ""):
        status, _, body = await ask(port, request(path, host=host))
        assert status == 403
        assert b"--admin-host" in body
        assert b"evil" not in body
        assert b"node-1" not in body


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:{port}", "[::1]:{port}", "ring.example.org", "LOCALHOST."])
async def test_known_names_are_answered(port: int, host: str) -> None:
    status, _, body = await ask(port, request("/api/v1/ring", host=host.format(port=port)))
    assert status == 200
    assert b"node-1" in body


async def test_a_request_that_names_two_hosts_or_none_is_refused(port: int) -> None:
    assert (await ask(port, request("/api/v1/node", "Host: localhost", host="evil.example")))[0] == 400
    assert (await ask(port, request("/api/v1/node", "Host: evil.example")))[0] == 400
    assert (await ask(port, request("/api/v1/node", host=None)))[0] == 400
    assert (await ask(port, request("/api/v1/node", host=None, version="1.0")))[0] == 403
    assert (await ask(port, request("/api/v1/node", host="a\x80b")))[0] in (400, 403)


async def test_the_host_of_an_absolute_target_counts_too(port: int) -> None:
    assert (await ask(port, request("http://evil.example/api/v1/node")))[0] == 403
    assert (await ask(port, request("http://evil.example@localhost/api/v1/node")))[0] == 403
    assert (await ask(port, request("http://localhost/api/v1/node", host="evil.example")))[0] == 403
    assert (await ask(port, request("http://localhost/api/v1/node")))[0] == 200


@pytest.mark.parametrize(
    "lines",
    [
        ("Origin: http://evil.example",),
        ("Origin: null",),
        ("Origin: http://localhost", "Origin: http://evil.example"),
        ("Origin: http://localhost:1",),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),
        ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"),
    ],
)
async def test_a_form_of_another_site_changes_nothing(port: int, lines: tuple[str, ...]) -> None:
    """Not even with the token, which a browser that keeps passwords could have been made to send."""
    for path in ("leave", "cancel-leave", "move", "recover"):
        status, _, body = await ask(
            port, request(f"/api/v1/{path}", f"Authorization: Bearer {TOKEN}", *lines, method="POST")
        )
        assert status == 403
        assert b"another site" in body


async def test_other_sites_may_link_to_the_page_and_not_read_it(port: int) -> None:
    opened = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate")
    assert (await ask(port, request("/", *opened)))[0] == 200
    assert (await ask(port, request("/api/v1/events", "Origin: http://evil.example")))[0] == 403
    assert (await ask(port, request("/api/v1/ring", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors")))[0] == 403


async def test_the_nodes_own_page_may_ask(port: int) -> None:
    own = (f"Origin: http://localhost:{port}", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors")
    assert (await ask(port, request("/api/v1/ring", *own, host=f"localhost:{port}")))[0] == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "POST"])
async def test_odd_methods_answer_no_more_than_which_there_are(port: int, method: str) -> None:
    status, headers, body = await ask(port, request("/api/v1/node", method=method))
    assert (status, headers["allow"]) == (405, "GET,HEAD")
    assert b"node-1" not in body


@pytest.mark.parametrize(
    "path",
    [
        "/page/../admin.py", "/page/..%2fadmin.py", "/page/%2e%2e/admin.py", "/page//etc/passwd", "/../../etc/passwd",
        "/page/model.js%00", "/page/", "//api/v1/node", "/%2e%2e/%2e%2e/etc/passwd", "/page/..\\admin.py",
    ],
)  # fmt: skip
async def test_paths_lead_to_nothing_but_the_pages_files(port: int, path: str) -> None:
    status, _, body = await ask(port, request(path))
    assert status == 404
    assert b"<" not in body
    assert b"passwd" not in body


async def test_each_of_many_requests_in_one_write_is_judged_alone(port: int) -> None:
    good, evil = request("/api/v1/node", host="localhost"), request("/api/v1/node", host="evil.example")
    keep = [one.replace(b"Connection: close\r\n", b"") for one in (good, evil)]
    async with connected(port) as one:
        one.send(b"".join(keep) * 100)
        for _ in range(100):
            assert (await one.answer())[0] == 200
            assert (await one.answer())[0] == 403


async def test_a_body_hides_no_second_request(port: int) -> None:
    hidden = request("/api/v1/ring")
    length = f"Content-Length: {len(hidden)}"
    async with connected(port) as one:
        one.send(request("/api/v1/node", length).replace(b"Connection: close\r\n", b"") + hidden + request("/livez"))
        assert b"uid" in (await one.answer())[2]
        assert b"alive" in (await one.answer())[2]
        assert await one.ended()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_old_clients_are_judged_likewise(port: int, version: str) -> None:
    assert (await ask(port, request("/livez", version=version)))[0] == 200
    assert (await ask(port, request("/livez", version=version, host="evil.example")))[0] == 403
