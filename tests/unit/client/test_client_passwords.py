"""Asking for a password on a real terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.client.ptys import on_terminal

from coterie_client.errors import UsageError
from coterie_client.passwords import read_password

NOBODY = "ws://127.0.0.1:1"
"""Where no server is: a password that will not do is refused before one is asked."""


async def test_a_new_password_that_is_too_short_is_refused_before_it_is_typed_again(tmp_path: Path) -> None:
    async with on_terminal(tmp_path, NOBODY, "register", "alice") as terminal:
        await terminal.until(lambda text: text.endswith("Password (at least 8 characters):"))
        await terminal.type("s3crets\n")
        assert await terminal.end() == 2
    assert "has 7 characters and must have at least 8" in terminal.text
    assert "again:" not in terminal.text
    assert "s3crets" not in terminal.text


@pytest.mark.parametrize(("key", "code"), [("\x04", 2), ("\x03", 130)], ids=["ctrl-d", "ctrl-c"])
@pytest.mark.parametrize(
    ("command", "prompt"), [("register", "Password (at least 8 characters):"), ("login", "Password:")]
)
async def test_what_follows_a_prompt_begins_on_its_own_line(
    tmp_path: Path, command: str, prompt: str, key: str, code: int
) -> None:
    async with on_terminal(tmp_path, NOBODY, command, "alice") as terminal:
        await terminal.until(lambda text: prompt in text)
        await terminal.type(key)
        assert await terminal.end() == code
    lines = terminal.text.splitlines()
    assert lines[0].strip() == prompt
    assert terminal.screen.cursor.x == 0  # where the shell's own prompt goes


def test_a_password_file_without_an_end_is_not_read_to_the_end(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more than"):
        read_password("/dev/zero", confirm=False)
