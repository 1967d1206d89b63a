"""The `coterie` command as people and scripts see it: output, errors, exit codes."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import sys
from pathlib import Path

import pytest
from tests.unit.client.conftest import PASSWORD, Coterie, Enter, environment, said
from tests.unit.client.gateway import Gateway, Refusal, Server, World
from tests.unit.client.running import line_of, running

from coterie_client.cli import MODULES, build_parser, main
from coterie_protocol.client_api import Request, Send
from coterie_protocol.errors import ErrorCode

COMMANDS = [command for commands in MODULES.values() for command in commands]


def test_every_command_explains_itself_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        text = capsys.readouterr().out
        assert f"coterie {command}" in text.split("example", 1)[1], command
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {command} " in text for command in COMMANDS)


def test_only_the_commands_own_module_is_loaded() -> None:
    parser = build_parser("whoami")
    with pytest.raises(SystemExit):
        parser.parse_args(["presence", "bob"])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sned"],
        ["send"],
        ["receive", "--timeout", "x"],
        ["receive", "--timeout", "-1"],
        ["history", "b", "--limit", "0"],
    ],
)
def test_wrong_usage_is_one_line_and_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--help" in error


async def test_register_send_receive(coterie: Coterie, tmp_path: Path) -> None:
    ran = await coterie("register", "Alice", "--password-file", "-", stdin=b"correct horse\n")
    assert (ran.code, ran.out) == (0, "registered and logged in as alice\n")
    session = tmp_path / "alice" / "session.json"
    assert stat.S_IMODE(session.stat().st_mode) == 0o600
    ran = await coterie("register", "bob", home="bob", COTERIE_PASSWORD=PASSWORD)
    assert ran.code == 0

    ran = await coterie("send", "bob", "hello", "--json")
    assert ran.code == 0
    sent = json.loads(ran.out)
    assert list(sent) == ["id", "from", "to", "time", "text", "state", "attachments"]
    assert (sent["from"], sent["to"], sent["text"], sent["state"]) == ("alice", "bob", "hello", "stored")
    assert sent["time"].endswith("Z")

    ran = await coterie("receive", "--json", home="bob")
    assert ran.code == 0
    assert json.loads(ran.out) == {**sent, "state": "delivered"}
    ran = await coterie("receive", home="bob")
    assert (ran.code, ran.out, ran.err) == (0, "", "")

    ran = await coterie("login", "alice", home="phone", COTERIE_PASSWORD=PASSWORD)
    assert (ran.code, ran.out) == (0, "logged in as alice\n")
    ran = await coterie("history", "bob", "--json", home="phone")
    assert [json.loads(line)["text"] for line in ran.out.splitlines()] == ["hello"]
    ran = await coterie("send", "bob", "from the old device")
    assert ran.code == 7
    assert "coterie login alice" in ran.err
    assert ran.err.count("\n") == 1
    ran = await coterie("login", "alice", home="eve", COTERIE_PASSWORD="wrong horse")
    assert ran.code == 3
    ran = await coterie("register", "alice", home="eve", COTERIE_PASSWORD=PASSWORD)
    assert ran.code == 1
    assert "taken" in ran.err
    ran = await coterie("login", "nobody", home="eve", COTERIE_PASSWORD=PASSWORD)
    assert ran.code == 4


async def test_no_store_keeps_no_session(coterie: Coterie, tmp_path: Path) -> None:
    ran = await coterie("register", "alice", "--no-store", COTERIE_PASSWORD=PASSWORD)
    assert ran.code == 0
    assert "not stored" in ran.err
    assert not (tmp_path / "alice" / "session.json").exists()
    assert (await coterie("whoami")).code == 3


@pytest.mark.parametrize(("password", "reason"), [(b"", "empty"), (b"short\n", "at least 8"), (b"\xff" * 9, "UTF-8")])
async def test_bad_passwords(coterie: Coterie, password: bytes, reason: str) -> None:
    ran = await coterie("register", "alice", "--password-file", "-", stdin=password)
    assert ran.code == 2
    assert reason in ran.err


async def test_bad_names_and_texts(coterie: Coterie, enter: Enter) -> None:
    await enter("alice")
    await enter("bob")
    cases: list[tuple[list[str | bytes], bytes, int, str]] = [
        (["send", "bob", ""], b"", 2, "empty"),
        (["send", "bob"], b"", 2, "empty"),
        (["send", "bob"], b"\xff\xfe", 2, "UTF-8"),
        (["send", "bob", b"\xff"], b"", 2, "UTF-8"),
        (["send", "bob"], b"x" * 1_000_000, 2, "limit of 65536 bytes"),
        (["send", "two words", "x"], b"", 2, "cannot be a user name"),
        (["chat", "nobody"], b"", 4, "nobody is called 'nobody'"),
        (["history", "bob", "--before", "zz"], b"", 2, "not a message id"),
        (["history", "bob", "--before", "00" * 16], b"", 1, "no message"),
    ]
    for arguments, stdin, code, reason in cases:
        ran = await coterie(*arguments, stdin=stdin)
        assert (ran.code, ran.out) == (code, ""), arguments
        assert reason in ran.err
        assert ran.err.count("\n") == 1
    ran = await coterie("send", "nobody", "x")
    assert (ran.code, ran.out.count("\n")) == (4, 1)  # the id, which was known before
    assert "nobody is called 'nobody'" in ran.err


async def test_standard_input_is_sent_byte_for_byte(coterie: Coterie, enter: Enter) -> None:
    await enter("alice")
    await enter("bob")
    text = "line\r\nline\n\n\t\u202e ✨\x1b[31m" + "é" * 30_000
    ran = await coterie("send", "bob", stdin=text.encode())
    assert ran.code == 0
    ran = await coterie("receive", "--json", home="bob")
    assert json.loads(ran.out)["text"] == text
    ran = await coterie("history", "bob")
    assert "\x1b" not in ran.out
    assert "␛[31m" in ran.out


async def test_unavailable_leaves_the_message_in_the_outbox_and_says_so(
    world: World, coterie: Coterie, enter: Enter
) -> None:
    await enter("alice")
    await enter("bob")

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Send):
            raise Refusal(ErrorCode.UNAVAILABLE, "no quorum")

    world.faults = faults
    ran = await coterie("send", "bob", "patience", "--timeout", "1")
    assert ran.code == 8
    assert "kept" in ran.err
    assert "try again" not in ran.err
    world.faults = lambda gateway, request: None
    ran = await coterie("send", "bob", "now")
    assert ran.code == 0
    ran = await coterie("receive", "--json", home="bob")
    assert [json.loads(line)["text"] for line in ran.out.splitlines()] == ["patience", "now"]


async def test_no_server_is_five(coterie: Coterie, enter: Enter, server: Server) -> None:
    await enter("alice")
    await server.stop()
    ran = await coterie("receive")
    assert ran.code == 5
    assert "coterie up" in ran.err
    ran = await coterie("send", "bob", "x")
    assert ran.code == 8
    assert "kept" in ran.err
    ran = await coterie("send", "bob", "x", "--servers", "http://x")
    assert ran.code == 2
    ran = await coterie("history", "bob")
    assert ran.out.endswith("you …: x\n")


async def test_history_contacts_and_whoami_need_no_server(coterie: Coterie, enter: Enter, server: Server) -> None:
    await enter("alice")
    await server.stop()
    assert (await coterie("history", "bob")).code == 0
    assert (await coterie("contacts", "add", "bob", "--alias", "Bob!")).code == 0
    assert (await coterie("contacts", "rename", "bob", "Robert")).code == 0
    ran = await coterie("contacts", "--json")
    assert {key: json.loads(ran.out)[key] for key in ("name", "alias")} == {"name": "bob", "alias": "Robert"}
    assert (await coterie("contacts")).out == "bob  Robert\n"
    assert (await coterie("contacts", "remove", "bob")).code == 0
    assert (await coterie("contacts", "remove", "bob")).code == 1
    assert (await coterie("whoami")).out == "alice\n"
    assert json.loads((await coterie("whoami", "--json")).out)["name"] == "alice"


async def test_not_logged_in_is_three(coterie: Coterie) -> None:
    for command in (["send", "bob", "x"], ["receive"], ["whoami"], ["contacts"], ["presence", "bob"], ["logout"]):
        ran = await coterie(*command)
        assert ran.code == 3, command
        assert "coterie login" in ran.err


async def test_presence(coterie: Coterie, enter: Enter) -> None:
    await enter("alice")
    await enter("bob")
    ran = await coterie("presence", "bob", "alice", "--json")
    assert [(json.loads(line)["name"], json.loads(line)["online"]) for line in ran.out.splitlines()] == [
        ("bob", False),
        ("alice", True),
    ]
    ran = await coterie("presence", "bob", "nobody")
    assert ran.code == 4
    assert ran.out.startswith("bob  offline, last seen ")


async def test_logout_ends_the_session(world: World, coterie: Coterie, enter: Enter) -> None:
    await enter("alice")
    ran = await coterie("logout")
    assert (ran.code, ran.out) == (0, "alice is logged out\n")
    assert world.accounts["alice"].token == b""
    assert (await coterie("logout")).code == 3


async def test_receive_waits_for_the_first_message(coterie: Coterie, enter: Enter) -> None:
    await enter("alice")
    await enter("bob")
    ran = await coterie("receive", "--timeout", "0.2", home="bob")
    assert (ran.code, ran.out) == (0, "")
    waiting = asyncio.create_task(coterie("receive", "--timeout", "20", home="bob"))
    await coterie("send", "bob", "at last")
    ran = await waiting
    assert ran.code == 0
    assert ran.out.endswith("alice: at last\n")


async def test_follow_goes_on_until_ctrl_c(coterie: Coterie, enter: Enter, server: Server, tmp_path: Path) -> None:
    await enter("alice")
    await enter("bob")
    async with running(tmp_path / "bob", server.url, "receive", "--follow", "--json") as process:
        for text in ("one", "two"):
            await coterie("send", "bob", text, "--wait", "delivered", "--timeout", "20")
            assert json.loads(await line_of(process.stdout))["text"] == text
        ran = await coterie("receive", home="bob")
        assert ran.code == 1
        assert f"process {process.pid} already receives" in ran.err
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        assert process.stderr is not None
        assert said(await process.stderr.read()) == ""
    assert (await coterie("receive", home="bob")).code == 0


async def test_follow_says_once_that_there_is_no_server_and_that_there_is_one_again(
    world: World, enter: Enter, server: Server, tmp_path: Path
) -> None:
    await enter("bob")
    port = int(server.url.rsplit(":", 1)[1])
    await server.stop()
    async with running(tmp_path / "bob", server.url, "receive", "--follow") as process:
        for _ in range(2):
            line = await line_of(process.stderr)
            assert "still trying" in line
            assert "try again" not in line
            await server.start(port)
            assert await line_of(process.stderr) == f"coterie: there is a server again: {server.url}"
            await server.kill()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130


async def test_a_takeover_ends_follow_with_seven(enter: Enter, server: Server, tmp_path: Path, world: World) -> None:
    await enter("bob")
    async with running(tmp_path / "bob", server.url, "receive", "--follow") as process:
        await world.until(lambda: any(link.subscribed for link in world.accounts["bob"].links))
        await enter("bob", home="phone", again=True)
        assert await asyncio.wait_for(process.wait(), 20) == 7
        assert "coterie login bob" in await line_of(process.stderr)


async def test_a_pipe_that_closes_is_quiet(coterie: Coterie, enter: Enter, server: Server, tmp_path: Path) -> None:
    await enter("alice")
    await enter("bob")
    async with running(tmp_path / "alice", server.url, "chat", "bob") as chat:
        assert chat.stdin is not None
        chat.stdin.write(b"".join(b"%05d %s\n" % (n, b"x" * 500) for n in range(1000)))
        chat.stdin.close()
        await asyncio.wait_for(chat.communicate(), 30)
        assert chat.returncode == 0
    command = f"{sys.executable} -m coterie_client receive --json | head -n 1"
    process = await asyncio.create_subprocess_shell(
        command,
        env=environment(tmp_path / "bob", server.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert json.loads(out)["text"].startswith("00000")
    assert said(err) == ""


async def test_chat_through_pipes(world: World, coterie: Coterie, enter: Enter, server: Server, tmp_path: Path) -> None:
    await enter("alice")
    await enter("bob")
    await enter("carol")
    await coterie("send", "alice", "are you there?", home="bob")
    async with running(tmp_path / "alice", server.url, "chat", "bob") as chat:
        assert (await line_of(chat.stdout)).endswith("bob: are you there?")
        assert chat.stdin is not None
        chat.stdin.write("yes ✨\n\n".encode())
        assert (await line_of(chat.stdout)).endswith("you ✓: yes ✨")
        await coterie("send", "alice", "psst", home="carol")
        assert await line_of(chat.stdout) == "[carol has sent you a message: coterie chat carol]"
        await coterie("send", "alice", "good", home="bob")
        assert (await line_of(chat.stdout)).endswith("bob: good")
        chat.stdin.write(b"no end of line")
        chat.stdin.close()
        assert await asyncio.wait_for(chat.wait(), 20) == 0
    ran = await coterie("receive", home="bob", TZ="UTC")
    assert [line.split(" ", 2)[2] for line in ran.out.splitlines()] == ["alice: yes ✨", "alice: no end of line"]
    ran = await coterie("receive")
    assert ran.out.endswith("carol: psst\n")
    async with running(tmp_path / "alice", server.url, "chat", "bob") as chat:
        assert (await line_of(chat.stdout)).endswith("bob: are you there?")
        assert (await line_of(chat.stdout)).endswith("you ✓✓: yes ✨")


async def test_a_home_that_cannot_be_written_acknowledges_nothing(
    world: World, coterie: Coterie, enter: Enter, tmp_path: Path
) -> None:
    await enter("alice")
    await enter("bob")
    await coterie("send", "bob", "x" * 60_000)
    (tmp_path / "bob" / "accounts").write_text("in the way")
    ran = await coterie("receive", home="bob")
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "cannot use" in ran.err
    assert len(world.pending("bob")) == 1


async def test_a_full_disk_under_standard_output_shows_the_message_again(
    world: World, coterie: Coterie, enter: Enter, server: Server, tmp_path: Path
) -> None:
    await enter("alice")
    await enter("bob")
    await coterie("send", "bob", "not lost")
    process = await asyncio.create_subprocess_shell(
        f"{sys.executable} -m coterie_client receive > /dev/full",
        env=environment(tmp_path / "bob", server.url),
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert said(err) == "coterie: the system refused: No space left on device (standard output)\n"
    assert len(world.pending("bob")) == 1
    assert (await coterie("receive", home="bob")).out.endswith("alice: not lost\n")


async def test_the_session_of_another_ring_says_what_to_do(world: World, coterie: Coterie, enter: Enter) -> None:
    await enter("alice")
    world.ring_uid = "ee" * 16
    ran = await coterie("receive")
    assert ran.code == 5
    assert "another ring" in ran.err
    assert "coterie login NAME" in ran.err
