"""People who want the same names at the same time, and who take each other's sessions over, through different nodes.

What they asked and what they were told is a history for tests.history.linearize.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import time
from collections.abc import Sequence

from tests.cluster.nemesis.books import Books
from tests.history.events import UNSEEN, Kind, Operation

from coterie_client.connection import Connection
from coterie_client.errors import ClientError
from coterie_protocol.client_api import Kdf, Login, Lookup, LookupReply, Register, Request, Resume, SessionGranted
from coterie_protocol.errors import CoterieError, ErrorCode

PATIENCE = 5.0
"""Seconds after which somebody gives up and calls the outcome unknown."""
LOGINS = 60
"""Takeovers of one account before another one is used: what nobody knows the end of adds up in the checker."""
_KDF = Kdf(8, 1, 1)


class Actors:
    """Everybody who works on accounts."""

    def __init__(self, servers: Sequence[str], books: Books, dice: random.Random) -> None:
        self._servers = list(servers)
        self._books = books
        self._history = books.history
        self._dice = dice
        self._names = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.stopped = False

    def start(self) -> None:
        """Begin: one contest for a name at a time, two accounts that change hands."""
        self._tasks = [asyncio.create_task(work) for work in (self._contests(), self._takeovers(), self._takeovers())]

    async def stop(self) -> None:
        """Let everybody finish what they do."""
        self.stopped = True
        done, late = await asyncio.wait(self._tasks, timeout=10 * PATIENCE)
        for task in late:
            task.cancel()
        for task in done:
            task.result()

    def _over(self) -> bool:
        return self.stopped

    def _new_name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}-{self._names}"

    # --- Names ---

    async def _contests(self) -> None:
        while not self._over():
            await self._books.accounts_change.wait()
            name = self._new_name("name")
            # Alone each through one node, so that in a partition they may be in two halves.
            servers = self._dice.sample(self._servers, 3)
            await asyncio.gather(*(self._register(f"{name}/{i}", name, servers[i]) for i in (0, 1)))
            await asyncio.gather(*(self._look(f"{name}/{i + 2}", name, server) for i, server in enumerate(servers)))
            await asyncio.sleep(self._dice.uniform(0.2, 1.0))

    async def _register(self, actor: str, name: str, server: str) -> str:
        """Register a name; return the base64 auth key if it is ours."""
        auth = base64.b64encode(os.urandom(32)).decode()
        async with self._at(server) as connection:
            if connection is None:
                return ""
            operation = self._history.begin(time.monotonic(), actor, Kind.REGISTER, name, actor)
            request = Register(name, _KDF, auth, actor.encode(), b"", os.urandom(16))
            reply = await self._ask(connection, request, operation, ErrorCode.NAME_TAKEN)
            if reply is None:
                return ""
            self._history.done(operation, time.monotonic(), actor)
            return auth

    async def _look(self, actor: str, name: str, server: str) -> None:
        async with self._at(server) as connection:
            if connection is None:
                return
            operation = self._history.begin(time.monotonic(), actor, Kind.READ, name)
            try:
                reply = await connection.call(Lookup(name), patience=PATIENCE)
            except CoterieError as error:
                if error.wire_code is ErrorCode.NO_SUCH_USER:
                    self._history.done(operation, time.monotonic(), None)
                return
            except ClientError:
                return
            assert isinstance(reply, LookupReply)
            self._history.done(operation, time.monotonic(), [reply.keys.decode(), UNSEEN])

    # --- Sessions ---

    async def _takeovers(self) -> None:
        while not self._over():
            name = self._new_name("account")
            auth = await self._register(name, name, self._dice.choice(self._servers))
            if not auth:
                await asyncio.sleep(0.5)
                continue
            for number in range(LOGINS // 2):
                await self._books.accounts_change.wait()
                if self._over():
                    return
                servers = self._dice.sample(self._servers, 2)
                await asyncio.gather(
                    *(self._login(f"{name}/{number}.{i}", name, auth, servers[i]) for i in range(len(servers)))
                )
                await asyncio.sleep(self._dice.uniform(0.1, 0.7))

    async def _login(self, actor: str, name: str, auth: str, server: str) -> None:
        async with self._at(server) as connection:
            if connection is None:
                return
            operation = self._history.begin(time.monotonic(), actor, Kind.LOGIN, name)
            granted = await self._ask(connection, Login(name, auth, os.urandom(16)), operation, None)
            if granted is None:
                return
            self._history.done(operation, time.monotonic(), granted.epoch)
        async with self._at(self._dice.choice(self._servers)) as connection:
            if connection is None:
                return
            reading = self._history.begin(time.monotonic(), actor, Kind.READ, name)
            try:
                reply = await connection.call(Resume(name, granted.token), patience=PATIENCE)
            except (CoterieError, ClientError):
                return  # superseded, which says nothing of by whom; or unknown
            assert isinstance(reply, SessionGranted)
            self._history.done(reading, time.monotonic(), [reply.keys.decode(), reply.epoch])

    # --- Both ---

    async def _ask(
        self, connection: Connection, request: Request, operation: Operation, refusal: ErrorCode | None
    ) -> SessionGranted | None:
        """Ask for a session; what is not granted is noted: refused if it was refused so, otherwise unknown."""
        try:
            reply = await connection.call(request, patience=PATIENCE)
        except CoterieError as error:
            if error.wire_code is refusal:
                self._history.refused(operation, time.monotonic())
            elif error.wire_code not in (ErrorCode.RATE_LIMITED, ErrorCode.BUSY, ErrorCode.UNAVAILABLE):
                self._books.complain(f"{operation.actor}: {operation.kind} {operation.key} failed: {error!r}")
            return None
        except ClientError:
            return None
        assert isinstance(reply, SessionGranted)
        return reply

    def _at(self, server: str) -> _Visit:
        return _Visit(server)


class _Visit:
    """A short connection to one node; None if it cannot be had."""

    def __init__(self, server: str) -> None:
        self._connection = Connection([server], patience=2.0)

    async def __aenter__(self) -> Connection | None:
        try:
            await self._connection.start()
        except ClientError:
            return None
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()
