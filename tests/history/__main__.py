"""Check a saved history: `python -m tests.history FILE`. Exit code 0: it keeps every promise; 1: it does not."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.history.events import History, Kind
from tests.history.linearize import ACCOUNTS, check_accounts
from tests.history.mailboxes import follow


def main(arguments: list[str] | None = None) -> int:
    """Check the files; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.history",
        description="Check saved histories: accounts and sessions for linearizability, mailboxes for loss and order.",
        epilog="example: python -m tests.history runs/17.jsonl",
    )
    parser.add_argument("file", type=Path, nargs="+", help="JSON lines, as History.save writes them")
    parser.add_argument("--json", action="store_true", help="one JSON object for each file")
    options = parser.parse_args(arguments)
    bad = False
    for file in options.file:
        try:
            history = History.load(file)
        except (OSError, ValueError) as error:
            print(f"{file} cannot be read: {error}", file=sys.stderr)
            return 2
        boxes = follow(history)
        complaints = check_accounts(history) + boxes.complaints()
        bad = bad or bool(complaints)
        recipients = {one.key for one in history.of(Kind.SEND)}
        counts = {
            "operations": len(history.operations),
            "names": len({one.key for one in history.of(*ACCOUNTS)}),
            "account_operations": sum(1 for _ in history.of(*ACCOUNTS)),
            "sent": boxes.sent_count,
            "acknowledged": boxes.acknowledged_count,
            "shown": boxes.shown_count,
            "recipients": len(recipients),
            "drained": len(recipients & boxes.drained_names),
        }
        if options.json:
            print(json.dumps({"file": str(file), **counts, "complaints": complaints}))
            continue
        print(
            f"{file}: {counts['account_operations']} operations on {counts['names']} names searched for an order; "
            f"{counts['sent']} messages sent, {counts['acknowledged']} acknowledged, {counts['shown']} shown; "
            f"{counts['drained']} of {counts['recipients']} recipients drained"
        )
        for text in complaints:
            print(text)
        print(f"{len(complaints)} complaints" if complaints else "every promise kept")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
