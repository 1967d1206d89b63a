"""`coterie presence`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from coterie_client.output import clock, json_line, looks_like, note, out, out_table
from coterie_client.times import rfc3339

from .common import add_command, settings_of, tell_wait, user_name_of

if TYPE_CHECKING:
    from coterie_client.connection import Connection
    from coterie_protocol.client_api import PresenceItem

AT_ONCE = 500
"""Names in one question; a node takes 1,000."""


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = add_command(
        subparsers,
        "presence",
        presence,
        summary="say who is online",
        example="coterie presence bob carol",
        lists=True,
        details="It knows of changes within half a minute.",
    )
    parser.add_argument("names", metavar="NAME", nargs="+")


async def presence(options: argparse.Namespace) -> int:
    """Run `coterie presence`; exits with 4 if nobody has one of the names."""
    import contextlib

    from coterie_client.acquaintance import Acquaintance
    from coterie_client.client import Account
    from coterie_client.connection import Connection
    from coterie_client.errors import ExitCode
    from coterie_client.known import KnownServers
    from coterie_client.session import noting_takeover

    settings = settings_of(options)
    names = list(dict.fromkeys(user_name_of(name) for name in options.names))
    with contextlib.closing(Account.open(settings)) as account:
        session = account.session
        acquaintance = Acquaintance(account)
        called = {name: acquaintance.called(name) for name in names}
    connection = Connection(
        settings.servers, session=session, tls=settings.tls(), known=KnownServers(settings), on_wait=tell_wait
    )
    with noting_takeover(settings.session_file, session):
        async with connection:
            items = await _ask(connection, names)
    rows: list[tuple[str, str]] = []
    for name in names:
        item = items.get(name)
        if item is None:
            note(f"coterie: nobody is called {name!r} in this ring; check the spelling of the name")
            continue
        seen = rfc3339(item.last_seen) if item.last_seen else None
        if options.json:
            value = {"name": name, "online": item.online, "last_seen": seen}
            out(json_line(value | looks_like(acquaintance.true_one(name))))
        else:
            away = f"offline, last seen {clock(item.last_seen, date=True)}" if item.last_seen else "offline"
            rows.append((called[name], "online" if item.online else away))
    out_table(rows)
    return 0 if len(items) >= len(names) else ExitCode.NO_SUCH_USER


async def _ask(connection: Connection, names: list[str]) -> dict[str, PresenceItem]:
    """Ask who of these is online; raises ClientError."""
    from coterie_client.errors import translate
    from coterie_protocol.client_api import PresenceQuery, PresenceReply
    from coterie_protocol.errors import CoterieError

    items: dict[str, PresenceItem] = {}
    for first in range(0, len(names), AT_ONCE):
        try:
            reply = await connection.call(PresenceQuery(names[first : first + AT_ONCE]))
        except CoterieError as error:
            raise translate(error) from None
        assert isinstance(reply, PresenceReply)
        items |= {item.name: item for item in reply.items if item.name in names}
    return items
