"""Messages between gateways and acting owners (docs/protocol.md, "Delivery"). Tags 80 to 119.

A *gateway* is the node to which a client is connected. The *owner* is the acting owner of a user's slot. Events may be
lost; whatever rests on one is made good by the next Attach, which gateways repeat every ten seconds.
"""

from __future__ import annotations

import msgspec

from .client_api import Kdf, MailItem, PresenceItem
from .registers import KnownConfig

# --- Accounts: requests of a gateway to the owner ---------------------------------------------------------------


class ReadAccount(msgspec.Struct, array_like=True, frozen=True, tag=80):
    """Ask for an account, linearizably. Answered by AccountValue."""

    name: str


class AccountValue(msgspec.Struct, array_like=True, frozen=True, tag=81):
    """The account's committed value (account.Account, encoded); None if nobody has the name."""

    value: bytes | None


class CreateAccount(msgspec.Struct, array_like=True, frozen=True, tag=82):
    """Create an account and its first session -> AccountValue, NAME_TAKEN. The same `op` again changes nothing."""

    name: str
    kdf: Kdf
    auth_hash: bytes
    keys: bytes
    vault: bytes
    op: bytes
    token_hash: bytes


class TakeSession(msgspec.Struct, array_like=True, frozen=True, tag=83):
    """Take the next session epoch -> AccountValue, SUPERSEDED. The same `op` again changes nothing.

    `auth_hash` is what the gateway has checked the password against: if it is no longer the account's, REFUSED.
    """

    name: str
    auth_hash: bytes
    op: bytes
    token_hash: bytes


class EndSession(msgspec.Struct, array_like=True, frozen=True, tag=84):
    """End the session of this epoch; one that has ended or was taken over stays as it is. -> AccountValue."""

    name: str
    epoch: int


# --- Messages on their way to a mailbox -------------------------------------------------------------------------


class Post(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A message to store, pending. `sender` is stamped by the gateway; "" (records.OUTGOING) is `to`'s own copy."""

    slot: int
    to: str
    sender: str
    id: bytes
    body: bytes
    prekey: bytes
    epoch: int
    """The session epoch of the writer."""
    after: bytes = b""
    """As in Send."""


class Forward(msgspec.Struct, array_like=True, frozen=True, tag=85):
    """Store these. An event, answered by Forwarded events with the same number that cover it part by part."""

    batch: int
    posts: list[Post]


class Forwarded(msgspec.Struct, array_like=True, frozen=True, tag=86):
    """Results by the posts' places in their Forward. `known`: configurations that the gateway lacks."""

    batch: int
    stored: list[tuple[int, int, int]]
    """(place, stored_at in Unix ms, copies)."""
    refused: list[tuple[int, int, str, int]]
    """(place, error code, detail, value)."""
    known: list[KnownConfig]


class ArchiveWrite(msgspec.Struct, array_like=True, frozen=True, tag=87):
    """Store archive copies in a user's own mailbox: (sender, id, part, copy). Answered by Archived, or ARCHIVE_FULL.

    With `discard` no copies are kept: only that these messages were delivered.
    """

    name: str
    epoch: int
    items: list[tuple[str, bytes, int, bytes]]
    discard: bool = False


class Archived(msgspec.Struct, array_like=True, frozen=True, tag=88):
    """All of them are on a majority of disks."""


# --- Sessions: gateways attach at owners ------------------------------------------------------------------------


class AttachItem(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A session of a user at the gateway. `subscription`: the gateway's number of its wish for mail, 0 for none.

    `order` is what an owner gave this subscription, 0 for a new one: of two subscriptions the higher order wins.
    """

    name: str
    epoch: int
    subscription: int
    order: int


class Attach(msgspec.Struct, array_like=True, frozen=True, tag=89):
    """Attach sessions, or renew them; presence rests on it. Answered by Attached.

    A subscription that the owner does not have yet begins anew, from the first pending record.
    """

    items: list[AttachItem]


class SessionEnd(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Sessions of `name` with an epoch below `current` are superseded; with `ended` that of `current` is over too."""

    name: str
    current: int
    at: int
    """Unix ms at which the current session was taken."""
    ended: bool


class Attached(msgspec.Struct, array_like=True, frozen=True, tag=90):
    """Attached, but for what is named here."""

    over: list[SessionEnd]
    orders: list[tuple[str, int, int]]
    """(name, subscription, order)."""
    elsewhere: list[str]
    """Names of slots that the node is no member of, or that are forming."""
    known: list[KnownConfig]


class Detach(msgspec.Struct, array_like=True, frozen=True, tag=91):
    """The gateway has no connection of these sessions any more: (name, epoch). An event."""

    items: list[tuple[str, int]]


class Push(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Mail for one subscription; `drained` and `certain`: see client_api.Drained, which it becomes."""

    name: str
    subscription: int
    items: list[MailItem]
    drained: bool
    certain: bool = True


class Deliver(msgspec.Struct, array_like=True, frozen=True, tag=92):
    """Mail for sessions of the gateway. An event."""

    pushes: list[Push]


class SessionsOver(msgspec.Struct, array_like=True, frozen=True, tag=93):
    """Sessions that have been taken over or ended. An event to the gateways that hold them."""

    items: list[SessionEnd]


class Unsubscribe(msgspec.Struct, array_like=True, frozen=True, tag=94):
    """A newer subscription elsewhere took these over: (name, subscription). An event to their gateway."""

    items: list[tuple[str, int]]


# --- Receipts, presence, reading --------------------------------------------------------------------------------


class RouteReceipts(msgspec.Struct, array_like=True, frozen=True, tag=95):
    """Receipts for the owner of their senders: (sender, to, id, state, Unix ms). An event, best effort."""

    items: list[tuple[str, str, bytes, int, int]]


class DeliverReceipts(msgspec.Struct, array_like=True, frozen=True, tag=96):
    """The same for a gateway that has sessions of the senders. An event, best effort."""

    items: list[tuple[str, str, bytes, int, int]]


class PresenceAsk(msgspec.Struct, array_like=True, frozen=True, tag=97):
    """Ask an owner who is there. Answered by PresenceAnswer."""

    names: list[str]


class PresenceAnswer(msgspec.Struct, array_like=True, frozen=True, tag=98):
    """Names that nobody has are missing; `elsewhere` are names that the node cannot speak for."""

    items: list[PresenceItem]
    elsewhere: list[str]
    known: list[KnownConfig]


class StatesAsk(msgspec.Struct, array_like=True, frozen=True, tag=99):
    """Ask for the states of messages that `sender` sent to `to`. Answered by StatesAnswer."""

    to: str
    sender: str
    ids: list[bytes]


class StatesAnswer(msgspec.Struct, array_like=True, frozen=True, tag=100):
    """(id, state or -1, changed_at) as in client_api.StatesReply."""

    items: list[tuple[bytes, int, int]]


class PageAsk(msgspec.Struct, array_like=True, frozen=True, tag=101):
    """Ask for a page of a user's archive. Answered by PageAnswer."""

    name: str
    epoch: int
    before: bytes
    limit: int


class PageAnswer(msgspec.Struct, array_like=True, frozen=True, tag=102):
    """Archived records, newest first, and the cursor of the next page (b"": no more)."""

    items: list[MailItem]
    next: bytes


ChatMessage = (
    ReadAccount | AccountValue | CreateAccount | TakeSession | EndSession
    | Forward | Forwarded | ArchiveWrite | Archived
    | Attach | Attached | Detach | Deliver | SessionsOver | Unsubscribe
    | RouteReceipts | DeliverReceipts | PresenceAsk | PresenceAnswer | StatesAsk | StatesAnswer | PageAsk | PageAnswer
)  # fmt: skip
