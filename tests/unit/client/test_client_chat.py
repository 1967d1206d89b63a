"""`coterie chat` on a real terminal: what is typed arrives whole, once, and only when it was sent off."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.client.conftest import Coterie, Enter
from tests.unit.client.gateway import Gateway, Refusal, Server, World
from tests.unit.client.ptys import on_terminal

from coterie_protocol.client_api import Request, Send
from coterie_protocol.errors import ErrorCode

LONG = "".join(f"{n:05d} " for n in range(1019)) + "."
"""6,115 characters: more than a terminal's line holds when the kernel edits it."""


@pytest.fixture
async def homes(enter: Enter) -> None:
    await enter("alice")
    await enter("bob")


async def received(coterie: Coterie) -> list[str]:
    ran = await coterie("receive", "--json", home="bob")
    assert ran.code == 0, ran.err
    return [json.loads(line)["text"] for line in ran.out.splitlines()]


def prompt(screen: str) -> bool:
    return screen.endswith("\n>") or screen == ">"


@pytest.mark.usefixtures("homes")
@pytest.mark.parametrize("bracketed", [True, False])
async def test_a_long_paste_arrives_whole(bracketed: bool, coterie: Coterie, server: Server, tmp_path: Path) -> None:
    async with on_terminal(tmp_path / "alice", server.url, "chat", "bob") as terminal:
        await terminal.until(prompt)
        await (terminal.paste if bracketed else terminal.type)(LONG)
        await terminal.until(lambda screen: LONG[-20:] in screen)
        await terminal.type("\r")
        await terminal.until(lambda screen: "you ✓:" in screen and prompt(screen))
        await terminal.type("\x04")
        assert await terminal.end() == 0
        assert terminal.restored()
    assert await received(coterie) == [LONG]


@pytest.mark.usefixtures("homes")
async def test_a_paste_of_several_lines_is_one_message(coterie: Coterie, server: Server, tmp_path: Path) -> None:
    async with on_terminal(tmp_path / "alice", server.url, "chat", "bob") as terminal:
        await terminal.until(prompt)
        await terminal.paste("one\r\ntwo\rthree\n")
        await terminal.type("four\x1b\rfive\r")
        await terminal.until(lambda screen: "you ✓: one" in screen)
        await terminal.type("\x04")
        assert await terminal.end() == 0
        assert "you ✓: one\n    two\n    three\n    four\n    five" in terminal.text
    assert await received(coterie) == ["one\ntwo\nthree\nfour\nfive"]


@pytest.mark.usefixtures("homes")
async def test_ctrl_d_does_not_send_a_draft(coterie: Coterie, server: Server, tmp_path: Path) -> None:
    async with on_terminal(tmp_path / "alice", server.url, "chat", "bob") as terminal:
        await terminal.until(prompt)
        await terminal.type("not yet\x04\x04\x04!")
        await terminal.until(lambda screen: screen.endswith("> not yet!"))
        await terminal.type("\x15\x04")  # Ctrl-U takes the draft away
        assert await terminal.end() == 0
        assert terminal.restored()
    assert await received(coterie) == []


@pytest.mark.usefixtures("homes")
async def test_keys_edit_whole_characters_and_bring_earlier_messages_back(
    coterie: Coterie, server: Server, tmp_path: Path
) -> None:
    async with on_terminal(tmp_path / "alice", server.url, "chat", "bob") as terminal:
        await terminal.until(prompt)
        await terminal.type("hllo\U0001f1e9\U0001f1ea\x7f\x1b[D\x1b[D\x1b[De\r")
        await terminal.until(lambda screen: "✓: hello" in screen and prompt(screen))
        await terminal.type("\x1b[A again\r")
        await terminal.until(lambda screen: "✓: hello again" in screen and prompt(screen))
        await terminal.type("\x04")
        assert await terminal.end() == 0
    assert await received(coterie) == ["hello", "hello again"]


@pytest.mark.usefixtures("homes")
async def test_a_message_that_comes_in_leaves_the_draft_alone(coterie: Coterie, server: Server, tmp_path: Path) -> None:
    async with on_terminal(tmp_path / "alice", server.url, "chat", "bob") as terminal:
        await terminal.until(prompt)
        await terminal.type("half a se")
        await terminal.until(lambda screen: screen.endswith("> half a se"))
        await coterie("send", "alice", "hi there", home="bob")
        screen = await terminal.until(lambda screen: "bob: hi there" in screen and screen.endswith("> half a se"))
        assert screen.count("hi there") == 1
        assert screen.count("half a se") == 1
        await terminal.type("ntence\r")
        await terminal.until(lambda screen: "you ✓: half a sentence" in screen and prompt(screen))
        await terminal.type("\x04")
        assert await terminal.end() == 0
    assert await received(coterie) == ["half a sentence"]


@pytest.mark.usefixtures("homes")
async def test_a_message_is_seen_at_once_and_each_mark_and_text_once(
    world: World, coterie: Coterie, server: Server, tmp_path: Path
) -> None:
    refused = True

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Send) and refused:
            raise Refusal(ErrorCode.UNAVAILABLE, "no quorum")

    world.faults = faults
    async with on_terminal(tmp_path / "alice", server.url, "chat", "bob") as terminal:
        await terminal.until(prompt)
        await terminal.type("first\r")
        screen = await terminal.until(lambda screen: "you …: first" in screen and prompt(screen))
        assert screen.count("first") == 1
        refused = False
        screen = await terminal.until(lambda screen: "you ✓: first" in screen)
        assert screen.count("first") == 1
        assert await received(coterie) == ["first"]
        screen = await terminal.until(lambda screen: "you ✓✓: first" in screen)
        assert screen.count("first") == 1

        # A mark that comes after others have written stands alone.
        await terminal.type("second\r")
        await terminal.until(lambda screen: "you ✓: second" in screen)
        await coterie("send", "alice", "interlude", home="bob")
        await terminal.until(lambda screen: "bob: interlude" in screen)
        assert await received(coterie) == ["second"]
        screen = await terminal.until(lambda screen: bool(re.search(r"^\d\d:\d\d you ✓✓$", screen, re.MULTILINE)))
        assert [screen.count(text) for text in ("first", "second", "interlude")] == [1, 1, 1], screen
        await terminal.type("\x04")
        assert await terminal.end() == 0
        assert [terminal.text.count(text) for text in ("first", "second", "interlude")] == [1, 1, 1]


@pytest.mark.usefixtures("homes")
async def test_a_frozen_server_hides_nothing_and_ctrl_c_keeps_it(
    world: World, coterie: Coterie, server: Server, tmp_path: Path
) -> None:
    async with on_terminal(tmp_path / "alice", server.url, "chat", "bob") as terminal:
        await terminal.until(prompt)
        server.freeze()
        await terminal.type("into the ice\r")
        await terminal.until(lambda screen: "you …: into the ice" in screen, 3)
        await terminal.type("a draft\x03")
        assert await terminal.end() == 130
        assert terminal.restored()
        assert "you …: into the ice" in terminal.text
        assert terminal.text.endswith("> a draft")
        server.freeze(False)
    assert (await coterie("send", "bob", "after")).code == 0
    assert await received(coterie) == ["into the ice", "after"]


@pytest.fixture
def heeded() -> Iterator[None]:
    """Let the client heed the signals that whoever started the tests ignores, as nohup does: that is inherited."""
    ignored = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_IGN]
    for one in ignored:
        signal.signal(one, signal.SIG_DFL)
    yield
    for one in ignored:
        signal.signal(one, signal.SIG_IGN)


@pytest.mark.usefixtures("homes", "heeded")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
async def test_the_terminal_is_as_before_after_a_signal(
    number: signal.Signals, code: int, server: Server, tmp_path: Path
) -> None:
    async with on_terminal(tmp_path / "alice", server.url, "chat", "bob") as terminal:
        await terminal.until(prompt)
        await terminal.type("dr")
        await terminal.until(lambda screen: screen.endswith("> dr"))
        assert not terminal.restored()
        assert terminal.process is not None
        terminal.process.send_signal(number)
        assert await terminal.end() == code
        assert terminal.restored()
        assert "Traceback" not in terminal.text


@pytest.mark.usefixtures("homes")
@pytest.mark.parametrize(
    ("term", "columns", "lines"),
    [("dumb", 80, 24), ("xterm", 20, 6), ("xterm", 20, 2), ("linux", 200, 50), ("no-such-terminal", 80, 24)],
)
async def test_it_works_on_odd_terminals(
    term: str, columns: int, lines: int, coterie: Coterie, server: Server, tmp_path: Path
) -> None:
    home = tmp_path / "alice"
    text = "a sentence that needs more than twenty columns"
    async with on_terminal(home, server.url, "chat", "bob", columns=columns, lines=lines, TERM=term) as terminal:
        await terminal.until(prompt)
        await terminal.type(text)
        await terminal.until(lambda screen: "columns" in screen.replace("\n", ""))
        await coterie("send", "alice", "short one", home="bob")
        await terminal.until(lambda screen: "short one" in screen.replace("\n    ", ""))
        await terminal.type("!\x7f?\r")
        await terminal.until(lambda screen: "✓" in screen and prompt(screen))
        await terminal.type("\x04")
        assert await terminal.end() == 0
        assert terminal.restored()
        assert "Traceback" not in terminal.text
    assert await received(coterie) == [text + "?"]


@pytest.mark.usefixtures("homes")
async def test_what_cannot_be_sent_is_given_back(coterie: Coterie, server: Server, tmp_path: Path) -> None:
    async with on_terminal(tmp_path / "alice", server.url, "chat", "bob", lines=60) as terminal:
        await terminal.until(prompt)
        await terminal.paste("x" * 65_537)
        await terminal.type("\r")
        await terminal.until(lambda screen: "the limit is 65536 bytes" in screen)
        await terminal.type("\x7f\r")
        await terminal.until(lambda screen: "you ✓:" in screen)
        await terminal.type("\x04")
        assert await terminal.end() == 2
    assert await received(coterie) == ["x" * 65_536]
