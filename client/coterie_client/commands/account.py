"""`coterie register`, `login`, `logout` and `whoami`."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from coterie_client.output import json_line, note, out, out_line
from coterie_protocol.words import counted

from .common import add_command, settings_of, user_name_of

if TYPE_CHECKING:
    from coterie_client.connection import Connection
    from coterie_client.session import Session
    from coterie_client.settings import Settings


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands' parsers."""
    register = add_command(
        subparsers,
        "register",
        register_account,
        summary="create an account and log in",
        example="coterie register alice",
        details="The password never leaves this machine and has at least 8 characters.",
    )
    login = add_command(
        subparsers,
        "login",
        log_in,
        summary="log in here, ending the account's session elsewhere",
        example="coterie login alice --password-file ~/.secrets/alice",
    )
    for parser in (register, login):
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--password-file", metavar="FILE", help="read the password from FILE (- is standard input)")
        parser.add_argument("--no-store", action="store_true", help="do not keep the session on this device")
    add_command(
        subparsers,
        "logout",
        log_out,
        summary="end the session",
        example="coterie logout",
        details="The history stays on this device.",
    )
    add_command(
        subparsers,
        "whoami",
        who_am_i,
        summary="say who is logged in here",
        example="coterie whoami --json",
        online=False,
        lists=True,
    )


async def register_account(options: argparse.Namespace) -> int:
    """Run `coterie register`."""
    from coterie_client import kdf
    from coterie_client.connection import Connection
    from coterie_client.passwords import read_password
    from coterie_client.session import register

    settings, name = settings_of(options), user_name_of(options.name)
    settings.make_home()
    password = read_password(options.password_file, confirm=True)
    kdf.check_password(password, new=True)
    async with Connection(settings.servers, tls=settings.tls()) as connection:
        session = await register(connection, name, password)
        await _keep(settings, connection, session, store=not options.no_store)
    out_line(f"registered and logged in as {session.name}")
    return 0


async def log_in(options: argparse.Namespace) -> int:
    """Run `coterie login`."""
    from coterie_client import kdf
    from coterie_client.connection import Connection
    from coterie_client.passwords import read_password
    from coterie_client.session import login

    settings, name = settings_of(options), user_name_of(options.name)
    settings.make_home()
    password = read_password(options.password_file, confirm=False)
    kdf.check_password(password, new=False)
    async with Connection(settings.servers, tls=settings.tls()) as connection:
        session = await login(connection, name, password)
        await _keep(settings, connection, session, store=not options.no_store)
    out_line(f"logged in as {session.name}")
    return 0


async def _keep(settings: Settings, connection: Connection, session: Session, *, store: bool) -> None:
    from coterie_client.client import Account, Client
    from coterie_client.errors import NotLoggedIn, Unavailable
    from coterie_client.session import load_session, save_session

    if not store:
        note("coterie: the session was not stored: it ends with this command")
        return
    try:
        before = load_session(settings.session_file)
        if (before.name, before.ring_uid) != (session.name, session.ring_uid):
            note(f"coterie: {before.name} was logged in here and no longer is; the history stays")
    except NotLoggedIn:
        pass
    save_session(settings.session_file, session)
    account = Account.open(settings, session)
    try:
        client = Client(account, connection)
        try:
            await client.catch_up(_progress())
            client.sender.resend(patience=5.0)
            await client.sender.finish(5.0)
            await client.archiver.flush(2.0)
        except Unavailable as error:
            note(f"coterie: the history is not complete yet ({error}); the next receive or chat goes on with it")
        finally:
            await client.sender.close()
            await client.archiver.close()
    finally:
        account.close()


class _progress:  # noqa: N801 - used like a function
    """Tell of a long paging, once a second."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, count: int) -> None:
        if time.monotonic() - self._told >= 1.0:
            self._told = time.monotonic()
            note(f"coterie: {counted(count, 'message')} of your history so far")


async def log_out(options: argparse.Namespace) -> int:
    """Run `coterie logout`."""
    from coterie_client.connection import Connection
    from coterie_client.errors import NotLoggedIn, SessionTaken
    from coterie_client.session import load_session, logout, remove_session

    settings = settings_of(options)
    session = load_session(settings.session_file)
    try:
        async with Connection(settings.servers, session=session, tls=settings.tls()) as connection:
            await logout(connection)
    except (SessionTaken, NotLoggedIn):
        note("coterie: the session had ended already")
    remove_session(settings.session_file)
    out_line(f"{session.name} is logged out")
    return 0


def who_am_i(options: argparse.Namespace) -> int:
    """Run `coterie whoami`."""
    from coterie_client.session import load_session

    settings = settings_of(options)
    session = load_session(settings.session_file)
    if options.json:
        value = {
            "name": session.name,
            "ring_uid": session.ring_uid,
            "session_epoch": session.epoch,
            "home": str(settings.home),
        }
        out(json_line(value))
    else:
        out_line(session.name)
    return 0
