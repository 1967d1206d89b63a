"""What an owner knows of its users' newest sessions, so that not every write costs a round of a quorum."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import structlog

from coterie_node.replication.configuration import SlotTable
from coterie_node.runtime.ports import Clock, RegisterDamaged, Store, StoreError, Tasks, Tx
from coterie_node.telling import tell
from coterie_protocol.account import Account, decode_account
from coterie_protocol.errors import CoterieError, ErrorCode, Unavailable
from coterie_protocol.identifiers import slot_of_name
from coterie_protocol.registers import AccountRegister

from ..accounts import ended, no_such_user, superseded_at
from ..ports import AccountRegisters
from ..settings import ChatSettings

log = structlog.get_logger()
T = TypeVar("T")

MOST = 50_000
READS_AT_ONCE = 16
MOST_VERIFYING = 10_000
"""Names that wait to be read; what is beyond them is asked again when its gateway renews it, some seconds later."""


class Standing(NamedTuple):
    """A user's newest session, as of `read_at` (Clock.now)."""

    epoch: int
    at: int
    """Unix ms at which it was taken."""
    ended: bool
    hidden: bool
    read_at: float


class Current:
    """Newest known standings by name. Everything noted here was committed."""

    def __init__(
        self,
        accounts: AccountRegisters,
        store: Store,
        table: SlotTable,
        clock: Clock,
        tasks: Tasks,
        settings: ChatSettings,
    ) -> None:
        self._accounts = accounts
        self._store = store
        self._table = table
        self._clock = clock
        self._tasks = tasks
        self._settings = settings
        self._known: dict[str, Standing] = {}
        self._watchers: list[Callable[[str, Standing], None]] = []
        self._none: list[Callable[[str], None]] = []
        self._verifying: set[str] = set()
        self._gate = asyncio.Semaphore(READS_AT_ONCE)

    def watch(self, callback: Callable[[str, Standing], None]) -> None:
        """Call back with each name whose newest session is another one than before, or has ended."""
        self._watchers.append(callback)

    def watch_none(self, callback: Callable[[str], None]) -> None:
        """Call back with each name that was to be verified and of which there is no account."""
        self._none.append(callback)

    def note(self, name: str, value: bytes | None) -> Account | None:
        """Take a committed value; return the account, None if there is none (any more)."""
        account = decode_account(value) if value is not None else None
        if account is None or account.deleted_at:
            return None
        standing = _standing(account, self._clock.now())
        held = self._known.pop(name, None)
        if held is not None and (held.epoch, held.ended) > (standing.epoch, standing.ended):
            # Two reads at once may end in the other order.
            self._known[name] = held
            return account
        self._known[name] = standing
        if len(self._known) > MOST:
            del self._known[next(iter(self._known))]
        if held is None or (held.epoch, held.ended) != (standing.epoch, standing.ended):
            tell(self._watchers, name, standing)
        return account

    def cached(self, name: str) -> Standing | None:
        """Return what is known, however old."""
        return self._known.get(name)

    async def get(self, name: str, max_age: float) -> Standing:
        """Return the newest session, read from a quorum if what is known is older. Raises NO_SUCH_USER, Unavailable."""
        held = self._known.get(name)
        if held is not None and self._clock.now() - held.read_at <= max_age:
            return held
        if self.note(name, await self._accounts.read(name)) is None:
            raise no_such_user(name)
        return self._known[name]

    def allows(self, name: str, epoch: int) -> bool:
        """Say whether a write of this session is certainly fine by what is known; if not, `check` finds out."""
        held = self._known.get(name)
        return (
            held is not None
            and held.epoch == epoch
            and not held.ended
            and self._clock.now() - held.read_at <= self._settings.current_age
        )

    async def check(self, name: str, epoch: int, *, grace: bool) -> None:
        """Check that a session may write. Raises SUPERSEDED, NOT_LOGGED_IN (it has ended), NO_SUCH_USER, Unavailable.

        With `grace` the session before is fine for some seconds more.
        """
        if self.allows(name, epoch):
            return
        held = await self.get(name, 0.0)
        grace_ms = self._settings.grace * 1000
        if held.epoch == epoch:
            if held.ended:
                raise ended()
            return
        # Another clock may have said `at`, or this one before it was set back: years ahead is not "just now".
        if not (grace and held.epoch == epoch + 1 and abs(self._clock.wall_ms() - held.at) < grace_ms):
            raise superseded_at(held.at)

    async def local(self, names: Sequence[str]) -> dict[str, tuple[Standing, bool]]:
        """Return (standing, known to be committed) by name: what is known, or this node's own register if newer.

        An own register may hold what was never committed, or lag behind: worth a question, never an answer. It
        shows sessions that were taken through another member.
        """
        keys = [(slot_of_name(name, self._table.slots), name) for name in names]
        registers = await read_store(self._store, lambda tx: [own_register(tx, *key) for key in keys])
        found: dict[str, tuple[Standing, bool]] = {}
        for name, register in zip(names, registers, strict=True):
            held = self._known.get(name)
            if held is not None:
                found[name] = (held, True)
            if register is None or register.value is None:
                continue
            account = decoded(name, register.value)
            if account is None or account.deleted_at:
                continue
            standing = _standing(account, 0.0)
            if held is None or (standing.epoch, standing.ended) > (held.epoch, held.ended):
                found[name] = (standing, False)
        return found

    def verify(self, names: Iterable[str]) -> None:
        """Read these from a quorum in the background; watchers hear of what is new."""
        for name in names:
            if name not in self._verifying and len(self._verifying) < MOST_VERIFYING:
                self._verifying.add(name)
                self._tasks.start(self._verify(name), f"verify {name}")

    async def _verify(self, name: str) -> None:
        try:
            async with self._gate:
                await self.get(name, 0.0)
        except CoterieError as error:
            log.debug("session not verified", code=error.wire_code.name)
            if error.wire_code is ErrorCode.NO_SUCH_USER:
                tell(self._none, name)
        except Exception:
            log.exception("a session could not be verified", name=name)
        finally:
            self._verifying.discard(name)


def _standing(account: Account, read_at: float) -> Standing:
    session = account.session
    return Standing(session.epoch, session.started_at, session.ended_at > 0, account.hidden, read_at)


async def read_store(store: Store, function: Callable[[Tx], T]) -> T:
    """Read the own store; a failure of it is Unavailable to whoever asks."""
    try:
        return await store.read(function)
    except StoreError as error:
        raise Unavailable(f"the node's store cannot be read: {error}") from error


def own_register(tx: Tx, slot: int, name: str) -> AccountRegister | None:
    """Return an account's register on this node's disk; None for a damaged one, too: only a quorum knows then.

    One of many accounts that are read together must not hide the others.
    """
    try:
        return tx.account(slot, name)
    except RegisterDamaged:
        return None


def decoded(name: str, value: bytes) -> Account | None:
    """Read an account's value; None, with a line in the log, for one that cannot be read."""
    try:
        return decode_account(value)
    except (ValueError, RecursionError) as error:  # MsgspecError and UnicodeError are ValueErrors.
        log.error("an account cannot be read", name=name, reason=str(error))
        return None
