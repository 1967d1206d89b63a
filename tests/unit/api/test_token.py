"""The admin token: read anew when its file changes, and never an empty one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, make_mocked_request

from coterie_node.api.token import authorise
from coterie_node.watched import MOST_BYTES, WatchedFile


def status(token: str | WatchedFile | None, authorization: str) -> int:
    try:
        authorise(make_mocked_request("POST", "/", headers={"Authorization": authorization}), token)
    except web.HTTPException as error:
        return error.status
    return 202


def as_a_secret(folder: Path, version: int, text: str) -> Path:
    """Write a token as the kubelet writes a Secret: a link to a link that changes whole."""
    data = folder / f"..{version}"
    data.mkdir()
    (data / "admin-token").write_text(text)
    new = folder / "..data_tmp"
    new.symlink_to(data.name)
    new.replace(folder / "..data")
    link = folder / "admin-token"
    if not link.is_symlink():
        link.symlink_to("..data/admin-token")
    return link


def test_a_token_that_was_made_anew_counts_from_the_next_request(tmp_path: Path) -> None:
    """A Secret deleted by hand and made again: the next leave was refused until the node was restarted."""
    token = WatchedFile(as_a_secret(tmp_path, 1, "first\n"))
    assert (status(token, "Bearer first"), status(token, "Bearer other")) == (202, 401)
    as_a_secret(tmp_path, 2, "other\n")
    assert (status(token, "Bearer first"), status(token, "Bearer other")) == (401, 202)


@pytest.mark.parametrize("trouble", ["gone", "empty"])
def test_a_token_stands_while_its_file_cannot_be_read(tmp_path: Path, trouble: str) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    token = WatchedFile(file)
    if trouble == "gone":
        file.unlink()
    else:
        file.write_text("\n")
    assert status(token, "Bearer first") == 202
    assert status(token, "Bearer ") == 401


def test_an_empty_token_is_none(tmp_path: Path) -> None:
    """Whoever sent `Bearer` and nothing was let in by an empty file."""
    file = tmp_path / "token"
    file.touch()
    assert status(WatchedFile(file), "Bearer ") == 403
    assert status("", "Bearer ") == 403
    assert status(None, "Bearer ") == 403


async def test_what_is_no_text_is_only_wrong() -> None:
    async def change(request: web.Request) -> web.Response:
        authorise(request, "right")
        return web.Response()

    app = web.Application()
    app.router.add_post("/", change)
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nAuthorization: Bearer \xff\xfe\r\n\r\n")
        assert b" 401 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


def test_no_more_is_read_than_a_token_may_have(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a" * MOST_BYTES + "b" * 10)
    assert len(WatchedFile(file).current()) == MOST_BYTES


def test_a_missing_file_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        WatchedFile(tmp_path / "none")
    assert os.listdir(tmp_path) == []
