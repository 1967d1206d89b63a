"""`coterie-node check`: looks a store over that no node is using, says what is damaged, and mends what it can."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec

from coterie_protocol.words import counted

from ..bootstrap.identity import Membership, read_membership
from ..config.settings import ENVIRONMENT
from ..replication.consensus.acceptor import ASIDE
from ..store.directory import DirectoryLock
from ..store.errors import DirectoryLocked, StoreError
from ..store.fsck.inspection import Finding, Inspection, Severity, inspect
from ..store.fsck.repair import Repaired, begin_anew, repair
from ..store.store import DATABASE_NAME
from .arguments import bare_command

WHOLE = 0
DAMAGED = 1
USAGE = 2
SHOWN = 1000
"""Findings that are printed one by one; --json has them all."""
QUIET_SECONDS = 2.0
"""Work that is done sooner says nothing of its progress."""

EXAMPLES = """\
examples:
  coterie-node check --data-dir ./n1
      look everything over; nothing is changed
  coterie-node check --data-dir ./n1 --repair
      take damaged records out: the node fetches them again from the other members once it runs
  coterie-node check --data-dir ./n1 --json

The node must not run meanwhile. Exit codes: 0 whole, 1 damaged (with --repair: still damaged), 2 not checked.
"""


def add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `check`."""
    parser = bare_command(commands, "check", "check a store that no node is using, and mend it", EXAMPLES)
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        default=os.environ.get(f"{ENVIRONMENT}DATA_DIR"),
        help=f"the node's data directory [{ENVIRONMENT}DATA_DIR]",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--repair", action="store_true", help="mend what can be mended; what is taken out is kept in a file beside it"
    )


class _Ticker:
    """Says on standard error how far long work is, once a second."""

    def __init__(self) -> None:
        self._next = time.monotonic() + QUIET_SECONDS

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 1.0
            of = f" of {total}" if total else ""
            print(f"coterie-node: {what}: {done}{of}", file=sys.stderr, flush=True)


def check(arguments: argparse.Namespace) -> int:
    """Check a store; return the exit code."""
    if not arguments.data_dir:
        return _refuse("--data-dir is missing: name the node's data directory")
    directory = Path(arguments.data_dir)
    path = directory / DATABASE_NAME
    if not path.is_file():
        return _refuse(f"{directory} holds no store of a node ({DATABASE_NAME}); check --data-dir")
    try:
        lock = DirectoryLock(directory)
    except DirectoryLocked as error:
        holder = f"process {error.pid}" if error.pid else "another process"
        return _refuse(f"a node runs on {directory} ({holder}); stop it first, then check again")
    except StoreError as error:
        return _refuse(str(error))
    try:
        return _check(path, arguments.json, arguments.repair)
    except (StoreError, sqlite3.Error, OSError) as error:
        return _refuse(f"{path}: {error}" if not isinstance(error, StoreError) else str(error))
    finally:
        lock.release()


def _check(path: Path, as_json: bool, mend: bool) -> int:
    ticker = _Ticker()
    found = inspect(path, ticker)
    repaired = None
    refused = ""
    after = found
    if mend and not found.whole:
        try:
            repaired = _mend(found, ticker)
        except (OSError, sqlite3.Error) as error:
            refused = f"not repaired, and nothing was changed: {error}; make room or mend the disk first"
        else:
            after = inspect(path, ticker) if repaired.done else found
    if as_json:
        print(json.dumps(_as_json(found, after, repaired, refused)))
    else:
        print(_as_text(found, after, repaired))
    if refused:
        print(f"coterie-node: {refused}", file=sys.stderr)
    return WHOLE if after.whole else DAMAGED


def _mend(found: Inspection, ticker: _Ticker) -> Repaired:
    if not found.fatal:
        return repair(found, ticker)
    ring = found.meta.get("ring")
    if ring is not None:
        try:
            membership = read_membership(ring)
        except ValueError:
            membership = None
        # The new node joins that ring; it did not found it.
        ring = None if membership is None else msgspec.msgpack.encode(replace(membership, founded=False))
    return begin_anew(found, ring, ticker)


def _refuse(why: str) -> int:
    print(f"coterie-node: {why}", file=sys.stderr)
    return USAGE


# --- What it says -------------------------------------------------------------------------------------------------


def _membership(found: Inspection) -> Membership | None:
    try:
        return read_membership(found.meta.get("ring"))
    except ValueError:
        return None


def _roles(found: Inspection) -> dict[str, dict[str, int]]:
    roles = {role: {"slots": 0, "accounts": 0, "records": 0} for role in ("users", "backups", "held")}
    for one in found.slots.values():
        role = roles[one.role]
        role["slots"] += 1
        role["accounts"] += one.accounts
        role["records"] += one.records
    return roles


def _as_text(found: Inspection, after: Inspection, repaired: Repaired | None) -> str:
    ring = _membership(after)
    uid = after.meta.get("uid", b"").decode("utf-8", "replace")
    position = after.meta.get("position", b"").decode("utf-8", "replace")
    lines = [
        f"{after.path}: schema {after.schema}, node {uid or 'without a uid yet'},"
        f" ring {ring.ring_uid if ring else 'none'}, position {position or 'none'}",
        f"mark of promised ballots: {'lost' if after.mark is None else after.mark}, highest promise {after.highest}",
        f"configurations: {after.registers}",
    ]
    for role, counts in _roles(after).items():
        lines.append(
            f"{role + ':':9}{counts['slots']:>6} slots {counts['accounts']:>9} accounts {counts['records']:>9} records"
        )
    if after.put_aside:
        lines.append(f"put aside by the node itself: {counted(after.put_aside, 'damaged record')}")
    if passed_over := sum(key.startswith(ASIDE) for key in after.meta):
        lines.append(f"put aside when a loss was accepted: the accounts of {counted(passed_over, 'slot')}")
    for finding in found.findings[:SHOWN]:
        lines.append(_line(finding))
    if len(found.findings) > SHOWN:
        lines.append(f"and {len(found.findings) - SHOWN} more; --json has them all")
    for done in repaired.done if repaired else ():
        lines.append(f"repaired: {done}")
    if repaired and repaired.kept:
        lines.append(f"kept: {repaired.kept}")
        if found.fatal:
            lines.append(
                "accounts are not taken over, for this node's votes are lost: the other members have them; were this"
                " the last node of all, put that file back and see `coterie-node recover --help`"
            )
    lines.append("whole" if after.whole else f"damaged: {counted(len(after.findings), 'finding')}")
    return "\n".join(lines)


def _line(finding: Finding) -> str:
    return f"{finding.severity.value}: {finding.what}; {finding.remedy}"


def _as_json(found: Inspection, after: Inspection, repaired: Repaired | None, refused: str) -> dict[str, Any]:
    ring = _membership(after)
    return {
        "path": str(after.path),
        "whole": after.whole,
        "schema": after.schema,
        "uid": after.meta.get("uid", b"").decode("utf-8", "replace"),
        "ring_uid": ring.ring_uid if ring else "",
        "position": after.meta.get("position", b"-1").decode("utf-8", "replace"),
        "mark": after.mark,
        "highest_promise": after.highest,
        "configurations": after.registers,
        "put_aside": after.put_aside,
        "passed_over": sorted(key.removeprefix(ASIDE) for key in after.meta if key.startswith(ASIDE)),
        "roles": _roles(after),
        "slots": {slot: asdict(one) for slot, one in sorted(after.slots.items())},
        "findings": [
            {"severity": one.severity.value, "what": one.what, "remedy": one.remedy} for one in found.findings
        ],
        "left": sum(one.severity is not Severity.HEALS for one in after.findings),
        "heals": sum(one.severity is Severity.HEALS for one in after.findings),
        "repaired": repaired.done if repaired else [],
        "kept": str(repaired.kept) if repaired and repaired.kept else None,
        "refused": refused,
    }
