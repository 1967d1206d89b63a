"""`coterie-node recover`: the manual way out when slots have lost the majority of their disks for good.

It talks to a running node's admin port; the nodes do the work (docs/decisions/0016-an-accepted-loss.md).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

import aiohttp
import msgspec

from coterie_protocol.admin import RecoveredSlot, RecoveryReport, Refusal
from coterie_protocol.registers import majority_of
from coterie_protocol.urls import ADMIN, BadUrl, read_url
from coterie_protocol.words import counted

from ..config.settings import ENVIRONMENT
from ..logs.output import clean
from ..store.directory import ADMIN_NAME
from .arguments import bare_command

DONE = 0
FAILED = 1
USAGE = 2
TIMEOUT = 600.0
"""Seconds for a whole answer: a recovery asks every node, slot by slot."""
MOST_BYTES = 64 << 20
"""Of an answer: the reports of all slots of the largest ring take less."""
SHOWN = 200
EXAMPLES = """\
examples:
  coterie-node recover --admin http://127.0.0.1:7402 --admin-token-file admin.token
      show which slots cannot reach a majority any more, and what would be kept of them; nothing is changed
  coterie-node recover --accept-loss --admin http://127.0.0.1:7402 --admin-token-file admin.token
      the same, and then go on without the lost members, after you have typed the ring's uid
  coterie-node recover --accept-loss --yes --data-dir ./n1 --admin-token-file admin.token

Only for disks that are gone for good: if a member that is named lost can still be started, or is only cut off from
this node, bring it back instead, and nothing is lost. Slots whose majority answers are left alone. The ring stays up.
Exit codes: 0 done, or nothing to do; 1 failed, or some slots failed; 2 usage, or not confirmed.
"""


class _Failed(Exception):
    """The node did not do it; the text says why and what to do."""


def add_recover(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `recover`."""
    parser = bare_command(commands, "recover", "go on without slots' members that are lost for good", EXAMPLES)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--admin", metavar="URL", help="the admin port of a running node (any of the ring)")
    where.add_argument(
        "--data-dir",
        metavar="DIR",
        default=None,
        help=f"the data directory of a node that runs on this machine [{ENVIRONMENT}DATA_DIR]",
    )
    parser.add_argument(
        "--admin-token-file",
        metavar="FILE",
        default=os.environ.get(f"{ENVIRONMENT}ADMIN_TOKEN_FILE"),
        help=f"holds the token that admin changes need [{ENVIRONMENT}ADMIN_TOKEN_FILE]",
    )
    parser.add_argument("--accept-loss", action="store_true", help="do it; else only show what would be done")
    parser.add_argument("--yes", action="store_true", help="do not ask for the ring's uid")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def recover(arguments: argparse.Namespace) -> int:
    """Show or accept the loss; return the exit code."""
    try:
        url = _address(arguments)
        token = _token(arguments.admin_token_file)
    except _Failed as error:
        print(f"coterie-node: {error}", file=sys.stderr)
        return USAGE
    try:
        report = _ask(url, token, {})
        if not report.slots or not arguments.accept_loss:
            _show(report, arguments.json)
            if not report.slots:
                return DONE
            print("coterie-node: nothing was changed; --accept-loss does it", file=sys.stderr)
            return USAGE
        if not arguments.yes and not _confirmed(report, arguments.json):
            print("coterie-node: not confirmed; nothing was changed", file=sys.stderr)
            return USAGE
        report = _ask(url, token, {"accept_loss": True, "ring_uid": report.ring_uid})
    except _Failed as error:
        print(f"coterie-node: {error}", file=sys.stderr)
        return FAILED
    _show(report, arguments.json)
    failed = [one for one in report.slots if one.state == "failed"]
    if failed:
        what = counted(len(failed), "slot")
        print(f"coterie-node: {what} failed; run it again: what is done stays done", file=sys.stderr)
    return FAILED if failed else DONE


def _address(arguments: argparse.Namespace) -> str:
    if arguments.admin is not None:
        return _read_address(arguments.admin, "--admin")
    directory = arguments.data_dir or os.environ.get(f"{ENVIRONMENT}DATA_DIR")
    if not directory:
        raise _Failed("--admin or --data-dir is missing: name a running node, by its admin port or its data directory")
    try:
        left = (Path(directory) / ADMIN_NAME).read_text().strip()
    except (OSError, ValueError):
        raise _Failed(
            f"no node has left its admin address in {directory}; start the node, or name one with --admin"
        ) from None
    return _read_address(left, str(Path(directory) / ADMIN_NAME))


def _read_address(text: str, source: str) -> str:
    try:
        return str(read_url(text, ADMIN))
    except BadUrl as error:
        raise _Failed(f"{source}: {error}") from None


def _token(file: str | None) -> str:
    if not file:
        raise _Failed("--admin-token-file is missing: only who has the ring's admin token may do this")
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        raise _Failed(f"cannot read the admin token from {file}: {error.strerror}; check --admin-token-file") from None


def _ask(url: str, token: str, body: dict[str, object]) -> RecoveryReport:
    try:
        status, answer = asyncio.run(_post(url, token, body))
    except TimeoutError:
        raise _Failed(f"the node at {url} gave no whole answer within {TIMEOUT:g} s; run it again") from None
    except (aiohttp.ClientError, OSError) as error:
        raise _Failed(
            f"no node answers at {url}: {clean(str(error))}; start it, or name another with --admin"
        ) from None
    if 300 <= status < 400:
        raise _Failed(
            f"what answers at {url} sends elsewhere, where the token is not taken; name the node with --admin"
        )
    if status != 200:
        try:
            detail = msgspec.json.decode(answer, type=Refusal).detail or f"HTTP {status}"
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            detail = f"HTTP {status}"
        raise _Failed(f"the node at {url} refuses: {clean(detail)}")
    try:
        return msgspec.json.decode(answer, type=RecoveryReport)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise _Failed(f"what answers at {url} is no node's admin port (7402 by default); check --admin") from None


async def _post(url: str, token: str, body: dict[str, object]) -> tuple[int, bytes]:
    """Return (HTTP status, answer). The token goes to whom the user named: no redirect is followed, no proxy known."""
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False) as session,
        session.post(
            f"{url}/api/v1/recover",
            headers={"Authorization": f"Bearer {token}"},
            json=body,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            allow_redirects=False,
        ) as response,
    ):
        answer = bytearray()
        async for chunk in response.content.iter_chunked(1 << 16):
            answer += chunk
            if len(answer) > MOST_BYTES:
                raise _Failed(f"what answers at {url} says more than {MOST_BYTES >> 20} MiB; check --admin")
        return response.status, bytes(answer)


def _confirmed(report: RecoveryReport, as_json: bool) -> bool:
    print(_text(report), file=sys.stderr if as_json else sys.stdout, flush=True)
    print(f"type the ring's uid ({report.ring_uid}) to accept this loss: ", end="", file=sys.stderr, flush=True)
    typed = sys.stdin.readline()
    if not typed.endswith("\n") or not sys.stdin.isatty():
        print(file=sys.stderr)  # nobody has ended the prompt's line
    return typed.strip() == report.ring_uid


def _show(report: RecoveryReport, as_json: bool) -> None:
    print(msgspec.json.encode(report).decode() if as_json else _text(report), flush=True)


def _text(report: RecoveryReport) -> str:
    if not report.slots:
        return f"ring {report.ring_uid}: nothing to recover, every slot has a majority of its members"
    telling = [one for one in report.slots if _tells(one)]
    lines = [_line(report, one) for one in telling[:SHOWN]]
    if len(telling) > SHOWN:
        lines.append(f"and {counted(len(telling) - SHOWN, 'more slot')}; --json has them all")
    by_keeper: dict[str, list[int]] = {}
    for one in report.slots:
        if not _tells(one):
            by_keeper.setdefault(one.keeper, []).append(one.slot)
    for keeper, slots in sorted(by_keeper.items()):
        which = f"{'slot' if len(slots) == 1 else 'slots'} {_ranges(slots)}"
        lines.append(f"{which}: {_verb(report.accepted)} {_named(report, keeper)}: empty there")
    if any(one.state != "failed" for one in report.slots):
        lines.append("may be lost of all these: what only the lost had confirmed, changes of accounts and messages")
    lost = sorted({uid for one in report.slots for uid in one.lost})
    kept = [one for one in report.slots if one.state != "failed"]
    lines.append(f"ring {report.ring_uid}: {counted(len(report.slots), 'slot')} without a majority")
    lines.append("lost: " + (", ".join(_named(report, uid) for uid in lost) or "nobody that is known"))
    lines.append(
        f"{'kept' if report.accepted else 'would be kept'}: {counted(sum(one.accounts for one in kept), 'account')} and"
        f" {counted(sum(one.records for one in kept), 'mailbox record')} of {counted(len(kept), 'slot')}"
    )
    lines += _few(report)
    return "\n".join(map(clean, lines))


def _few(report: RecoveryReport) -> list[str]:
    """Say what can be served afterwards, where fewer nodes are there than should keep each message."""
    there, factor = report.nodes_there, report.replication_factor
    if not 0 < there < factor:
        return []
    have = f"only {counted(there, 'node is', 'nodes are')} there, for {counted(factor, 'copy', 'copies')} of everything"
    if there < majority_of(factor):
        more = counted(majority_of(factor) - there, "more node has", "more nodes have")
        return [f"{have}: these slots serve nobody until {more} joined; start it now"]
    return [f"{have}: these slots are served with {counted(there, 'copy', 'copies')} until another node joins"]


def _line(report: RecoveryReport, one: RecoveredSlot) -> str:
    if one.state == "failed":
        return f"slot {one.slot}: failed: {one.error}"
    verb = _verb(one.state == "recovered")
    has = f"{counted(one.accounts, 'account')}, {counted(one.records, 'record')}"
    line = f"slot {one.slot}: {verb} {_named(report, one.keeper)}: {has}"
    if one.keeper not in one.members:
        line += f"; lost: {one.may_be_lost}"
    return line + (f"; given up, damaged: {', '.join(one.given_up)}" if one.given_up else "")


def _tells(one: RecoveredSlot) -> bool:
    """Say whether a slot has a line of its own."""
    anything = one.accounts or one.records or one.given_up
    return bool(anything or one.state == "failed" or one.keeper not in one.members)


def _verb(done: bool) -> str:
    return "kept at" if done else "would be kept at"


def _ranges(slots: list[int]) -> str:
    """Write ascending numbers as 1-3, 7."""
    parts: list[list[int]] = []
    for slot in slots:
        if parts and parts[-1][1] == slot - 1:
            parts[-1][1] = slot
        else:
            parts.append([slot, slot])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in parts)


def _named(report: RecoveryReport, uid: str) -> str:
    name = report.nodes.get(uid)
    return f"{name} ({uid[:8]})" if name else uid
