"""`coterie register`, `login`, `logout` and `whoami`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from coterie_client.output import json_line, note, out, out_line
from coterie_protocol.words import counted

from .common import add_command, settings_of, tell_wait, user_name_of

if TYPE_CHECKING:
    from coterie_client.client import Account
    from coterie_client.connection import Connection
    from coterie_client.session import Session
    from coterie_client.settings import Settings

    Enter = Callable[[Connection, str, str], Awaitable[Session]]

WHERE_FROM = "read the password from FILE (- is standard input); without it from COTERIE_PASSWORD, else it is asked for"


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
        parser.add_argument("--password-file", metavar="FILE", help=WHERE_FROM)
        parser.add_argument("--no-store", action="store_true", help="do not keep the session on this device")
    logout = add_command(
        subparsers,
        "logout",
        log_out,
        summary="end the session",
        example="coterie logout",
        details="The history stays on this device.",
    )
    logout.add_argument("--local", action="store_true", help="only forget it on this device; needs no server")
    add_command(
        subparsers,
        "whoami",
        who_am_i,
        summary="say who is logged in here",
        example="coterie whoami --json",
        details="It asks no server; exits with 7 once another command here has learnt that the session was taken over.",
        online=False,
        lists=True,
    )


async def register_account(options: argparse.Namespace) -> int:
    """Run `coterie register`."""
    from coterie_client.session import register

    session = await _enter(options, register, new=True)
    out_line(f"registered and logged in as {session.name}")
    return 0


async def log_in(options: argparse.Namespace) -> int:
    """Run `coterie login`."""
    from coterie_client.session import login

    session = await _enter(options, login, new=False)
    out_line(f"logged in as {session.name}")
    return 0


async def _enter(options: argparse.Namespace, enter: Enter, *, new: bool) -> Session:
    """Begin a session and keep it. That it can be kept is made sure of first: it ends the one before it."""
    import contextlib

    from coterie_client import kdf
    from coterie_client.client import Account
    from coterie_client.connection import Connection
    from coterie_client.passwords import read_password
    from coterie_client.session import Reserved, noting_takeover, ring_uid_of

    settings, name = settings_of(options), user_name_of(options.name)
    settings.make_home()
    password = read_password(options.password_file, confirm=new)
    kdf.check_password(password, new=new)
    async with Connection(settings.servers, tls=settings.tls(), on_wait=tell_wait) as connection:
        if options.no_store:
            note("coterie: the session is not stored: it ends with this command")
            return await enter(connection, name, password)
        with contextlib.ExitStack() as stack:
            account = stack.enter_context(contextlib.closing(Account.prepare(settings, ring_uid_of(connection), name)))
            place = stack.enter_context(Reserved(settings.session_file))
            session = await enter(connection, name, password)
            _tell_of_former(settings, session)
            place.keep(session)
            with noting_takeover(settings.session_file, session):
                await _catch_up(account.of(session), connection)
        return session


def _tell_of_former(settings: Settings, session: Session) -> None:
    """Tell whose session was kept here, if it was another account's; a damaged one is nobody's."""
    from coterie_client.errors import ClientError
    from coterie_client.session import load_session

    try:
        before = load_session(settings.session_file)
    except ClientError:
        return
    if (before.name, before.ring_uid) != (session.name, session.ring_uid):
        note(f"coterie: {before.name} was logged in here and no longer is; the history stays")


async def _catch_up(account: Account, connection: Connection) -> None:
    from coterie_client.client import Client
    from coterie_client.errors import Unavailable

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
    from coterie_client.errors import ClientError, NotLoggedIn, SessionTaken, Unavailable
    from coterie_client.known import KnownServers
    from coterie_client.session import load_session, logout, remove_session

    settings = settings_of(options)
    if options.local:
        name = "the session that was damaged"
        here: Session | None = None
        try:
            here = load_session(settings.session_file)
            name = here.name
        except NotLoggedIn:
            raise
        except ClientError:
            pass
        if not remove_session(settings.session_file, here):
            raise SessionTaken(name, 0, here=True)
        note("coterie: nobody was told: the ring knows this session until the next login ends it")
        out_line(f"{name} is logged out here")
        return 0
    session = load_session(settings.session_file)
    try:
        known = KnownServers(settings)
        async with Connection(
            settings.servers, session=session, tls=settings.tls(), known=known, on_wait=tell_wait
        ) as connection:
            await logout(connection)
    except (SessionTaken, NotLoggedIn):
        note("coterie: the session had ended already")
    except Unavailable as error:
        raise Unavailable(f"{error}; to forget the session on this device only: coterie logout --local") from None
    if not remove_session(settings.session_file, session):
        raise SessionTaken(session.name, 0, here=True)
    out_line(f"{session.name} is logged out")
    return 0


def who_am_i(options: argparse.Namespace) -> int:
    """Run `coterie whoami`."""
    from coterie_client.session import check_taken, load_session

    settings = settings_of(options)
    session = load_session(settings.session_file)
    check_taken(settings.session_file, session)
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
