"""`coterie history`: reads what this device remembers; needs no server."""

from __future__ import annotations

import argparse

from coterie_client.output import json_line, message_json, message_lines, note, out

from .common import MOST_TEXT, add_command, positive, settings_of, text_of, user_name_of


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = add_command(
        subparsers,
        "history",
        history,
        summary="show the conversation with somebody, as this device knows it",
        example="coterie history bob --limit 20 --search lunch",
        online=False,
        lists=True,
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--limit", type=positive, default=50, metavar="N", help="the newest N (default 50)")
    parser.add_argument("--before", metavar="ID", help="only what came before this message")
    parser.add_argument("--search", metavar="TEXT", help="only messages that contain TEXT, in any case of letters")


def history(options: argparse.Namespace) -> int:
    """Run `coterie history`."""
    import contextlib

    from coterie_client.acquaintance import Acquaintance
    from coterie_client.client import Account
    from coterie_client.errors import ClientError, UsageError
    from coterie_protocol.identifiers import message_id_of

    name = user_name_of(options.name)
    search = None if options.search is None else text_of(options.search, "the text to search for", MOST_TEXT)
    before = None
    if options.before is not None:
        try:
            before = message_id_of(options.before)
        except ValueError:
            raise UsageError(f"{options.before!r} is not a message id; --json shows them") from None
    with contextlib.closing(Account.open(settings_of(options))) as account:
        me, acquaintance = account.session.name, Acquaintance(account)
        messages = account.history.page(name, limit=options.limit, before=before, search=search, me=me)
        if messages is None:
            raise ClientError(f"there is no message {options.before} with {name} on this device; --json shows the ids")
        if not messages:
            note(f"coterie: there is no {'such message' if search or before else 'message'} with {name} on this device")
        for message in messages:
            if options.json:
                out(json_line(message_json(message, me, acquaintance.true_one(message.peer))))
            else:
                out(message_lines(message, acquaintance.called))
    return 0
