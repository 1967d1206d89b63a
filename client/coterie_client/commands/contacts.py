"""`coterie contacts`: the contact list, on this device."""

from __future__ import annotations

import argparse
import time

from coterie_client.output import json_line, out, out_line
from coterie_client.times import rfc3339

from .common import add_command, settings_of, take_free_text, text_of, user_name_of

MOST_ALIAS = 128
"""Bytes of an alias."""


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = add_command(
        subparsers,
        "contacts",
        show,
        summary="show or change the contact list of this device",
        example="coterie contacts add bob --alias 'Bob from work'\n  coterie contacts --json",
        online=False,
        lists=True,
    )
    actions = parser.add_subparsers(metavar="ACTION")
    add = actions.add_parser(
        "add", help="add somebody", description="Add somebody.", epilog="example: coterie contacts add bob"
    )
    add.add_argument("name", metavar="NAME")
    add.add_argument("--alias", default="", help="what to show for them")
    add.set_defaults(run=add_contact)
    remove = actions.add_parser(
        "remove", help="remove somebody", description="Remove somebody.", epilog="example: coterie contacts remove bob"
    )
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run=remove_contact)
    rename = actions.add_parser(
        "rename",
        help="change what is shown for somebody",
        description="Change what is shown for somebody; the user name stays.",
        epilog="example: coterie contacts rename bob 'Bob from work'",
    )
    take_free_text(rename)
    rename.add_argument("name", metavar="NAME")
    rename.add_argument("alias", metavar="ALIAS")
    rename.set_defaults(run=rename_contact)


def show(options: argparse.Namespace) -> int:
    """Run `coterie contacts`."""
    from coterie_client.client import Account

    account = Account.open(settings_of(options))
    try:
        contacts = account.contacts.all()
    finally:
        account.close()
    for contact in contacts:
        if options.json:
            out(json_line({"name": contact.name, "alias": contact.alias, "added": rfc3339(contact.added_at)}))
        else:
            out_line(f"{contact.name}{'  ' + contact.alias if contact.alias else ''}")
    return 0


def add_contact(options: argparse.Namespace) -> int:
    """Run `coterie contacts add`."""
    from coterie_client.client import Account

    name, alias = user_name_of(options.name), text_of(options.alias, "the alias", MOST_ALIAS)
    account = Account.open(settings_of(options))
    try:
        account.contacts.add(name, alias, time.time_ns() // 1_000_000)
    finally:
        account.close()
    return 0


def remove_contact(options: argparse.Namespace) -> int:
    """Run `coterie contacts remove`."""
    from coterie_client.client import Account

    name = user_name_of(options.name)
    account = Account.open(settings_of(options))
    try:
        account.contacts.remove(name)
    finally:
        account.close()
    return 0


def rename_contact(options: argparse.Namespace) -> int:
    """Run `coterie contacts rename`."""
    from coterie_client.client import Account

    name, alias = user_name_of(options.name), text_of(options.alias, "the alias", MOST_ALIAS)
    account = Account.open(settings_of(options))
    try:
        account.contacts.rename(name, alias)
    finally:
        account.close()
    return 0
