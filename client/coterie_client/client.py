"""Everything that one logged-in account needs, put together: connection, history, outbox, sender, mailbox."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import backfill
from .archiver import Archiver
from .connection import PATIENCE, Connection
from .contacts import Contacts
from .database import Database, account_path
from .history import History
from .known import KnownServers
from .locks import receiver_lock
from .mailbox import Mailbox
from .outbox import Outbox
from .private import check_ours
from .sender import Sender
from .session import Session, load_session, noting_takeover

if TYPE_CHECKING:
    from pathlib import Path

    from .settings import Settings


@dataclass(frozen=True, slots=True)
class Account:
    """One account's part of this device: it needs no server."""

    session: Session
    database: Database
    history: History
    outbox: Outbox
    contacts: Contacts
    lock_path: Path

    @classmethod
    def open(cls, settings: Settings, session: Session | None = None) -> Account:
        """Open the account of this session (by default the one that is logged in); raises NotLoggedIn."""
        session = session or load_session(settings.session_file)
        return cls.prepare(settings, session.ring_uid, session.name).of(session)

    @classmethod
    def prepare(cls, settings: Settings, ring_uid: str, name: str) -> Account:
        """Open an account that has no session here yet; what is wrong with the disk is told now. Raises ClientError."""
        settings.make_home()
        path = account_path(settings.home, ring_uid, name)
        # What waits there is sent as the account's own.
        for part in (path.parent.parent, path.parent, path, path.with_name(path.name + "-wal")):
            check_ours(part, "the account's data")
        database = Database(path)
        lock_path = account_path(settings.home, ring_uid, name, ".lock")
        nobody = Session(name, ring_uid, 0, "")
        return cls(nobody, database, History(database), Outbox(database), Contacts(database), lock_path)

    def of(self, session: Session) -> Account:
        """Return the same account with this session."""
        return replace(self, session=session)

    def close(self) -> None:
        """Close the account's file."""
        self.database.close()


class Client:
    """A logged-in account with its connection to the ring. Use `async with Client.open(settings) as client`."""

    def __init__(self, account: Account, connection: Connection) -> None:
        self.account = account
        self.connection = connection
        self.archiver = Archiver(connection, account.history)
        self.sender = Sender(connection, account.outbox, self.archiver, account.history, epoch=account.session.epoch)
        self.mailbox = Mailbox(connection, account.history, self.archiver, self.sender)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: Settings,
        session: Session | None = None,
        *,
        receive: bool = False,
        wait: bool = True,
        patience: float = PATIENCE,
        on_wait: Callable[[str], None] | None = None,
        persistent: bool = False,
    ) -> AsyncIterator[Client]:
        """Connect the logged-in account; everything is closed at the end of the block.

        `receive` holds the receiver's lock meanwhile, which the mailbox needs. Without `wait` the block begins before
        there is a server, so that what it sends is in the outbox even if none is found. `patience`: seconds for which
        requests, and the search for a server, go on; `on_wait` and `persistent` are Connection's.
        Raises NotLoggedIn, AlreadyReceiving, SessionTaken, Unavailable.
        """
        with contextlib.ExitStack() as stack:
            account = stack.enter_context(contextlib.closing(Account.open(settings, session)))
            if receive:
                stack.enter_context(receiver_lock(account.lock_path))
            connection = Connection(
                settings.servers,
                session=account.session,
                tls=settings.tls(),
                patience=patience,
                known=KnownServers(settings),
                on_wait=on_wait,
                persistent=persistent,
            )
            client = cls(account, connection)
            stack.enter_context(noting_takeover(settings.session_file, account.session))
            try:
                if wait:
                    await connection.start()
                else:
                    connection.begin()
                yield client
            finally:
                await client.mailbox.close()
                await client.sender.close()
                await client.archiver.close()
                await connection.close()

    async def catch_up(self, on_progress: Callable[[int], None] | None = None) -> int:
        """Page the archive into the history if this session has not done so yet; return how many were new."""
        account = self.account
        if not backfill.is_due(account.database, account.session.epoch):
            return 0
        return await backfill.page_archive(
            self.connection, account.database, account.history, epoch=account.session.epoch, on_progress=on_progress
        )

    def drained(self) -> None:
        """Remember that all that waited has been received."""
        if (welcome := self.connection.welcome) is not None:
            backfill.mark_complete(self.account.database, self.account.session.epoch, welcome.time_ms)
