"""People chat through a ring of five real nodes, by the command line and by the library."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from babel import Locale, localedata
from tests.cluster.conftest import MakeShell
from tests.cluster.harness import Ring
from tests.cluster.people import Shell, person

from coterie_client.connection import Connection
from coterie_protocol.client_api import MAX_TEXT_BYTES, Login, LoginParams
from coterie_protocol.errors import CoterieError

FORTUNES = Path("/usr/share/games/fortunes")


def read_until(process: subprocess.Popen[bytes], what: str, seconds: float = 15.0) -> str:
    """Read what a process prints until a line holds `what`."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    seen = b""
    deadline = time.monotonic() + seconds
    while what.encode() not in seen:
        assert time.monotonic() < deadline, f"{what!r} did not come: {seen.decode(errors='replace')}"
        seen += process.stdout.read() or b""
        if what.encode() not in seen:
            time.sleep(0.01)
    return seen.decode()


def test_two_people_chat_in_two_terminals(shell: MakeShell, name: Callable[[str], str]) -> None:
    alice, bob = name("alice"), name("bob")
    at_alice, at_bob = shell(alice), shell(bob)
    assert at_alice.run("register", alice) == f"registered and logged in as {alice}\n"
    at_bob.run("register", bob)
    with at_alice.begin("chat", bob) as one, at_bob.begin("chat", alice) as two:
        assert one.stdin is not None
        assert two.stdin is not None
        one.stdin.write("Hello, Bob — how are you? 👋\n".encode())
        read_until(two, "Hello, Bob — how are you? 👋")
        two.stdin.write(b"Well, thank you.\n")
        read_until(one, "Well, thank you.")
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(15) == 0
    said = [json.loads(line) for line in at_alice.run("history", bob, "--json").splitlines()]
    assert [(line["from"], line["text"]) for line in said] == [
        (alice, "Hello, Bob — how are you? 👋"),
        (bob, "Well, thank you."),
    ]


def test_who_is_away_finds_it_all_later_and_once(shell: MakeShell, name: Callable[[str], str]) -> None:
    alice, bob = name("alice"), name("bob")
    at_alice, at_bob = shell(alice), shell(bob)
    at_bob.run("register", bob)
    at_alice.run("register", alice)
    assert at_bob.run("receive") == ""
    id_text = at_alice.run("send", bob, "are you there?").strip()
    found = [json.loads(line) for line in at_bob.run("receive", "--json").splitlines()]
    assert [(line["id"], line["from"], line["to"], line["text"]) for line in found] == [
        (id_text, alice, bob, "are you there?")
    ]
    assert at_bob.run("receive") == ""
    delivered = json.loads(at_alice.run("history", bob, "--json"))
    assert delivered["id"] == id_text


def test_standard_input_is_sent_byte_for_byte(shell: MakeShell, name: Callable[[str], str]) -> None:
    alice, bob = name("alice"), name("bob")
    shell(bob).run("register", bob)
    shell(alice).run("register", alice)
    text = "two\nlines\r\n\ttab, no newline at the end: \u202eright to left\u202c \x07"
    shell(alice).run("send", bob, stdin=text.encode())
    assert json.loads(shell(bob).run("receive", "--json"))["text"] == text


def corpus() -> list[str]:
    """Return 2,000 real texts in many scripts: what languages, territories and months are called everywhere."""
    texts: dict[str, None] = {}
    for identifier in sorted(localedata.locale_identifiers()):
        locale = Locale.parse(identifier)
        names = [*locale.languages.values(), *locale.territories.values(), *locale.months["format"]["wide"].values()]
        texts[f"{locale.get_display_name()}: " + ", ".join(str(name) for name in names[:40])] = None
        texts.update(dict.fromkeys(str(name) for name in names[40:200:20]))
    for path in sorted(FORTUNES.glob("*")) if FORTUNES.is_dir() else []:
        if path.is_file() and path.suffix not in (".dat", ".u8"):
            sayings = path.read_text(encoding="utf-8", errors="ignore").split("\n%\n")
            texts.update(dict.fromkeys(sayings[:20]))
    extra = ["\u0000 null", "e\u0301 against \u00e9", "\U0001f468\u200d\U0001f469\u200d\U0001f467", " ", "\n\n", "ﷺ"]
    found = [text for text in texts if text]
    step = len(found) / (2000 - len(extra))
    return [*(found[int(i * step)] for i in range(2000 - len(extra))), *extra]


async def test_two_thousand_real_texts_to_somebody_who_is_away(
    ring: Ring, tmp_path: Path, name: Callable[[str], str]
) -> None:
    texts = corpus()
    assert len(texts) == 2000
    assert sum(len(text.encode()) > len(text) for text in texts) > 1000  # not ASCII
    alice, bob = await person(ring, tmp_path, name("alice")), await person(ring, tmp_path, name("bob"))
    async with alice.online() as client:
        await asyncio.gather(*(client.sender.submit(bob.name, text)[1] for text in texts))
        assert await client.archiver.flush(30.0)
    found = await asyncio.to_thread(Shell(bob.settings.home, ring.servers).run, "receive", "--json")
    received = [json.loads(line)["text"] for line in found.splitlines()]
    assert [text.encode() for text in received] == [text.encode() for text in texts]
    assert await asyncio.to_thread(Shell(bob.settings.home, ring.servers).run, "receive") == ""


def test_a_second_login_takes_the_session_over(shell: MakeShell, name: Callable[[str], str]) -> None:
    alice = name("alice")
    first, second = shell(alice), shell(f"{alice}-elsewhere")
    first.run("register", alice)
    with first.begin("receive", "--follow") as following:
        # It follows once it has resumed: presence says so.
        deadline = time.monotonic() + 15
        while not json.loads(first.run("presence", alice, "--json"))["online"]:
            assert time.monotonic() < deadline
        second.run("login", alice)
        assert following.wait(15) == 7
        assert following.stderr is not None
        sentence = following.stderr.read().decode()
        assert sentence.count("\n") == 1
        assert "taken over" in sentence
        assert f"coterie login {alice}" in sentence
    assert "taken over" in first.run("receive", code=7)
    assert second.run("receive") == ""


def test_64_kib_pass_and_more_is_refused_with_the_limit(shell: MakeShell, name: Callable[[str], str]) -> None:
    alice, bob = name("alice"), name("bob")
    shell(bob).run("register", bob)
    shell(alice).run("register", alice)
    largest = ("é" * (MAX_TEXT_BYTES // 2)).encode()
    shell(alice).run("send", bob, stdin=largest)
    for size in (MAX_TEXT_BYTES + 1, 1_000_000):
        assert str(MAX_TEXT_BYTES)[:2] in shell(alice).run("send", bob, stdin=b"x" * size, code=2)
    assert json.loads(shell(bob).run("receive", "--json"))["text"].encode() == largest


async def test_passwords_are_hashed_beside_the_event_loop(make_ring: Callable[..., Ring], tmp_path: Path) -> None:
    """While logins keep bcrypt (at its real cost) busy, a node still stores and acknowledges at once."""
    ring = make_ring(3, COTERIE_NODE_BCRYPT_COST="12")
    ring.start()
    await ring.ready()
    alice = await person(ring, tmp_path, "alice")
    one_server = ring.servers[:1]
    async with alice.online() as client, Connection(one_server) as guesser:
        await client.sender.send("alice", "warm")
        await guesser.call(LoginParams("alice"))
        wrong = base64.b64encode(bytes(32)).decode()

        async def guess() -> None:
            with pytest.raises(CoterieError):
                await guesser.call(Login("alice", wrong, os.urandom(16)), patience=20.0)

        guesses = asyncio.gather(*(guess() for _ in range(3)))
        waits = []
        while not guesses.done():
            begin = time.monotonic()
            await client.sender.send("alice", "quick")
            waits.append(time.monotonic() - begin)
        await guesses
        assert len(waits) > 10
        assert sorted(waits)[len(waits) // 2] < 0.1, waits
