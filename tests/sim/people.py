"""Simulated people: they register, log in on new devices, write to each other and read, through any trouble.

Everything that they ask, and what comes of it, goes into a history (tests/history). A writer is called by name and
session, `ann/2`: the order of messages is promised within a session. What a person has seen on one device is not shown
on the next, and counts once. What is acknowledged is told to the witness, who looks after the copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.history.events import End, History, Kind, Operation, Value
from tests.history.linearize import check_accounts
from tests.history.mailboxes import check_mailboxes
from tests.sim.chatting import ChatWorld
from tests.sim.device import Device, Draft, auth_of
from tests.sim.links import Lost
from tests.sim.loop import sim_loop
from tests.sim.world import Process

from coterie_client.errors import RETRIABLE
from coterie_client.history import Message
from coterie_protocol.account import decode_account
from coterie_protocol.chat import AccountValue, ReadAccount
from coterie_protocol.client_api import Kdf, Login, Register, SessionGranted
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import Uid, slot_of_name
from coterie_protocol.records import Record, State

KDF = Kdf(8, 1, 1)
READ_TIMEOUT = 6.0


@dataclass
class Asked:
    """A registration or a login, and what has come of it."""

    what: str
    where: Uid | None
    answer: str = "waiting"

    def __str__(self) -> str:
        return f"{self.what}{'' if self.where is None else f' at {self.where}'}: {self.answer}"


class Person:
    """Somebody with a name, or who wants it."""

    def __init__(self, people: People, name: str) -> None:
        self.people = people
        self.name = name
        self.device: Device | None = None
        """The newest device with a session."""
        self.asked: list[Asked] = []
        """Registrations and logins."""
        self.written = 0
        self.stored = 0
        self.refused = 0
        self._numbers: dict[tuple[str, str], int] = {}
        self._seen: set[tuple[str, bytes]] = set()
        self._last: dict[str, tuple[int, int]] = {}

    @property
    def seen(self) -> int:
        """Return how many messages were shown."""
        return len(self._seen)

    def number(self, label: str, to: str) -> int:
        """Return the number of the next message that a session writes to somebody."""
        number = self._numbers[label, to] = self._numbers.get((label, to), 0) + 1
        return number

    # --- what was shown ---

    def last_shown(self, sender: str) -> tuple[int, int]:
        """Return the greatest (epoch, counter) of a sender that was shown."""
        return self._last.get(sender, (0, 0))

    def was_shown(self, sender: str, message: bytes) -> bool:
        """Say whether this person has seen a message."""
        return (sender, message) in self._seen

    def shown(self, message: Message) -> None:
        """See a message."""
        key = (message.sender, message.id)
        assert key not in self._seen, f"{self.name} was shown {message.text!r} twice"
        self._seen.add(key)
        place = (message.epoch, message.counter)
        self._last[message.sender] = max(self._last.get(message.sender, (0, 0)), place)
        assert message.text is not None
        label, number = message.text.split(" ")
        now = sim_loop().time()
        self.people.history.shown(now, self.name, label, message.id.hex(), int(number))


class People:
    """Everybody, and what they have been told."""

    def __init__(self, world: ChatWorld) -> None:
        self.world = world
        self.history = History()
        self.persons: dict[str, Person] = {}
        self.busy = 0
        """Registrations and logins without an answer."""
        self._loop = sim_loop()
        self._sends: dict[bytes, tuple[Person, Operation]] = {}
        self._to_nobody: set[bytes] = set()

    def stop(self) -> None:
        """Let nobody do anything more."""
        for person in self.persons.values():
            if person.device is not None:
                person.device.stop()

    def pick(self, where: Uid | None) -> Uid | None:
        """Return the node that was wished for, if it listens, otherwise any that does."""
        chats = sorted(self.world.chats)
        if where in self.world.chats:
            return where
        return self._loop.rng.choice(chats) if chats else None

    # --- what people do ---

    def register(self, name: str, where: Uid | None = None) -> None:
        """Have somebody ask for a name; who gets it is its person."""
        person = self.persons.setdefault(name, Person(self, name))
        op = self._loop.rng.randbytes(16)
        request = Register(name, KDF, auth_of(name), b"", b"", op)
        asked = self.history.begin(self._loop.time(), f"{name}?{op.hex()[:6]}", Kind.REGISTER, name, op.hex())
        self._ask(person, where, request, asked)

    def login(self, name: str, where: Uid | None = None) -> None:
        """Have somebody log in on a new device, who has a session on another."""
        person = self.persons.get(name)
        if person is None or person.device is None:
            return
        op = self._loop.rng.randbytes(16)
        asked = self.history.begin(self._loop.time(), f"{name}?{op.hex()[:6]}", Kind.LOGIN, name)
        self._ask(person, where, Login(name, auth_of(name), op), asked)

    def _ask(self, person: Person, where: Uid | None, request: Register | Login, asked: Operation) -> None:
        device = Device(person, where)
        person.asked.append(Asked(str(asked.kind), where))
        self.busy += 1
        device.begin(self._asked(person, device, request, asked, person.asked[-1]))

    async def _asked(
        self, person: Person, device: Device, request: Register | Login, asked: Operation, told: Asked
    ) -> None:
        """Ask for a session, at one node after the other, until there is an answer."""
        attempt = 0
        try:
            while True:
                link = await device.connect(attempt)
                try:
                    if link is None:
                        raise Lost
                    granted = await link.post([request])[0]
                    break
                except Lost:
                    pass
                except CoterieError as error:
                    told.answer = error.wire_code.name
                    if error.wire_code is ErrorCode.NAME_TAKEN:
                        self.history.refused(asked, self._loop.time())
                        return
                    if error.wire_code is ErrorCode.SUPERSEDED:
                        return
                    if error.wire_code not in RETRIABLE:
                        raise AssertionError(f"{person.name} is refused: {error.detail}") from None
                finally:
                    if link is not None:
                        link.close()
                await device.pause(attempt)
                attempt += 1
        finally:
            self.busy -= 1
        assert isinstance(granted, SessionGranted)
        told.answer = "granted"
        self.history.done(asked, self._loop.time(), granted.epoch if asked.kind is Kind.LOGIN else None)
        former = person.device
        if former is not None and former.epoch > granted.epoch:
            return  # A still later one has answered first.
        person.device = device
        device.granted(granted)

    def write(self, name: str, to: str, count: int = 1) -> None:
        """Have somebody write messages to somebody, who may not exist; without a session, nothing happens.

        Nobody writes to somebody who is just registering: whether they are told that nobody has the name is chance.
        """
        person, other = self.persons.get(name), self.persons.get(to)
        if person is None or person.device is None or person.device.over:
            return
        if other is not None and other.device is None:
            return
        device = person.device
        label = f"{name}/{device.epoch}"
        for _ in range(count):
            number = person.number(label, to)
            draft = device.write(to, f"{label} {number}", 1_800_000_000_000 + int(self._loop.time() * 1000))
            asked = self.history.begin(self._loop.time(), label, Kind.SEND, to, [draft.id.hex(), number])
            self._sends[draft.id] = (person, asked)
            if other is None:
                self._to_nobody.add(draft.id)
            person.written += 1

    def roam(self, name: str, where: Uid | None) -> None:
        """Have somebody go to another node."""
        person = self.persons.get(name)
        if person is not None and person.device is not None and not person.device.over:
            person.device.roam(where)

    async def read(self, name: str, process: Process) -> None:
        """Have a node read an account, as a gateway does; the answer is checked with the history."""
        asked = self.history.begin(self._loop.time(), f"reader at {process.uid}", Kind.READ, name)
        told = Asked("read", process.uid)
        self.persons.setdefault(name, Person(self, name)).asked.append(told)
        slot = slot_of_name(name, self.world.slots)
        try:
            reply = await process.call(lambda: process.router.call(slot, ReadAccount(name), READ_TIMEOUT))
        except CoterieError as error:
            told.answer = error.wire_code.name
            return
        assert isinstance(reply, AccountValue)
        told.answer = "nobody" if reply.value is None else "known"
        account = None if reply.value is None else decode_account(reply.value)
        result: Value = None if account is None else [account.create_op.hex(), account.session.epoch]
        self.history.done(asked, self._loop.time(), result)

    # --- what devices are told ---

    def stored(self, device: Device, draft: Draft) -> None:
        """Note that a message was acknowledged."""
        person, asked = self._sends[draft.id]
        if asked.ended is None:
            person.stored += 1
            self.history.done(asked, self._loop.time())
        self._promise(draft.to, device.name, draft.id, State.PENDING, draft.body)

    def refused(self, draft: Draft) -> None:
        """Note that a message was refused."""
        person, asked = self._sends[draft.id]
        assert draft.id in self._to_nobody, f"{person.name} is told that nobody is called {draft.to}"
        person.refused += 1
        self.history.refused(asked, self._loop.time())

    def archived(self, device: Device, batch: Sequence[tuple[str, bytes, int, bytes]]) -> None:
        """Note that archive copies were acknowledged."""
        for sender, message, _, copy in batch:
            self._promise(device.name, sender, message, State.ARCHIVED, copy)

    def _promise(self, owner: str, sender: str, message: bytes, state: State, body: bytes) -> None:
        slot = slot_of_name(owner, self.world.slots)
        record = Record(slot, owner, sender, message, 0, int(state), body, len(body), b"", 0, 0, 0)
        self.world.witness.acknowledged_record(record)

    # --- the end ---

    def unfinished(self) -> str:
        """Say what is still to be done; empty when all is."""
        if self.busy:
            return f"{self.busy} registrations or logins have no answer"
        for person in self.persons.values():
            device = person.device
            if device is not None and device.over:
                return f"{person.name} has no session"
            if device is not None and not device.idle():
                return f"{person.name} is not idle: {device.told()}"
        for message, (person, asked) in self._sends.items():
            if asked.end is End.DONE and not self.persons[asked.key].was_shown(person.name, message):
                return f"{asked.key} has not been shown number {asked.value} of {asked.actor}, acknowledged"
        return ""

    def verdict(self) -> None:
        """Check the history: sessions, loss, order. Raises AssertionError with all complaints."""
        for name, person in sorted(self.persons.items()):
            if person.device is not None:
                self.history.drained(self._loop.time(), name)
        complaints = check_accounts(self.history) + check_mailboxes(self.history)
        assert not complaints, "\n".join(complaints)
