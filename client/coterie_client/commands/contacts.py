"""`coterie contacts`: the contact list, on this device."""

from __future__ import annotations

import argparse
import contextlib
import time
from typing import TYPE_CHECKING

from coterie_client import terminal
from coterie_client.output import json_line, looks_like, note, out, out_table
from coterie_client.times import rfc3339

from .common import add_command, settings_of, take_free_text, text_of, user_name_of

if TYPE_CHECKING:
    from coterie_client.acquaintance import Acquaintance

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
    for action in (add, remove, rename):
        action.add_argument("--home", metavar="DIR", default=argparse.SUPPRESS, help="the user's data (COTERIE_HOME)")
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def show(options: argparse.Namespace) -> int:
    """Run `coterie contacts`."""
    from coterie_client.acquaintance import Acquaintance
    from coterie_client.client import Account

    with contextlib.closing(Account.open(settings_of(options))) as account:
        contacts = account.contacts.all()
        acquaintance = Acquaintance(account)
        names = [acquaintance.marked(contact.name) for contact in contacts]
        true = {contact.name: acquaintance.true_one(contact.name) for contact in contacts}
    if options.json:
        for contact in contacts:
            value = {"name": contact.name, "alias": contact.alias, "added": rfc3339(contact.added_at)}
            out(json_line(value | looks_like(true[contact.name])))
    elif contacts:
        out_table([(name, terminal.field(contact.alias)) for name, contact in zip(names, contacts, strict=True)])
    else:
        note("coterie: there is nobody in your contacts; add somebody with: coterie contacts add NAME")
    return 0


def add_contact(options: argparse.Namespace) -> int:
    """Run `coterie contacts add`."""
    from coterie_client.acquaintance import Acquaintance
    from coterie_client.client import Account

    name = user_name_of(options.name)
    with contextlib.closing(Account.open(settings_of(options))) as account:
        acquaintance = Acquaintance(account)
        alias = _alias_of(options.alias, name, acquaintance)
        account.contacts.add(name, alias, time.time_ns() // 1_000_000)
        if (warning := acquaintance.warning(name)) is not None:
            note(f"coterie: {name} {warning}")
    return 0


def remove_contact(options: argparse.Namespace) -> int:
    """Run `coterie contacts remove`."""
    from coterie_client.client import Account

    name = user_name_of(options.name)
    with contextlib.closing(Account.open(settings_of(options))) as account:
        account.contacts.remove(name)
    return 0


def rename_contact(options: argparse.Namespace) -> int:
    """Run `coterie contacts rename`."""
    from coterie_client.acquaintance import Acquaintance
    from coterie_client.client import Account

    name = user_name_of(options.name)
    with contextlib.closing(Account.open(settings_of(options))) as account:
        account.contacts.rename(name, _alias_of(options.alias, name, Acquaintance(account)))
    return 0


def _alias_of(text: str, name: str, acquaintance: Acquaintance) -> str:
    """Return an alias for somebody; raises UsageError if it cannot be shown, or makes them look like somebody else."""
    from coterie_client.errors import UsageError

    alias = text_of(text, "the alias", MOST_ALIAS)
    if terminal.block(alias) != alias or alias != alias.strip() or not alias.isprintable():
        raise UsageError("the alias has characters that cannot be seen, or spaces at an end; choose another")
    if alias and (other := acquaintance.bearer(alias, name)) is not None:
        raise UsageError(f"the alias {alias!r} would make {name} look like {other}, whom you know; choose another")
    return alias
