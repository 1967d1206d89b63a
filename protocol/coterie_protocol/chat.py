"""Messages between gateways and acting owners (docs/protocol.md, "Delivery"). Tags 80 to 119.

A *gateway* is the node to which a client is connected. The *owner* is the acting owner of a user's slot. Events may be
lost; whatever rests on one is made good by the next Attach, which gateways repeat every ten seconds.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from .bounds import (
    AccountBytes,
    AuthHash,
    Body,
    Code,
    Copies,
    Count,
    Cursor,
    Handed,
    Id,
    Index,
    Items,
    Name,
    Number,
    Op,
    Opaque,
    RecordState,
    RelayedId,
    Sentence,
    SlotNumber,
    StateOrNone,
    StoredPart,
    StoredPrekey,
    TokenOrNone,
    UnixMs,
)
from .client_api import Kdf, MailItem, PresenceItem
from .registers import KnownConfig

# --- Accounts: requests of a gateway to the owner ---------------------------------------------------------------


class ReadAccount(msgspec.Struct, array_like=True, frozen=True, tag=80):
    """Ask for an account, linearizably. Answered by AccountValue."""

    name: Name


class AccountValue(msgspec.Struct, array_like=True, frozen=True, tag=81):
    """The account's committed value (account.Account, encoded); None if nobody has the name."""

    value: AccountBytes | None


class CreateAccount(msgspec.Struct, array_like=True, frozen=True, tag=82):
    """Create an account and its first session -> AccountValue, NAME_TAKEN. The same `op` again changes nothing."""

    name: Name
    kdf: Kdf
    auth_hash: AuthHash
    keys: Opaque
    vault: Opaque
    op: Op
    token_hash: TokenOrNone


class TakeSession(msgspec.Struct, array_like=True, frozen=True, tag=83):
    """Take the next session epoch -> AccountValue, SUPERSEDED. The same `op` again changes nothing.

    `auth_hash` is what the gateway has checked the password against: if it is no longer the account's, REFUSED.
    """

    name: Name
    auth_hash: AuthHash
    op: Op
    token_hash: TokenOrNone


class EndSession(msgspec.Struct, array_like=True, frozen=True, tag=84):
    """End the session of this epoch; one that has ended or was taken over stays as it is. -> AccountValue."""

    name: Name
    epoch: Count


# --- Messages on their way to a mailbox -------------------------------------------------------------------------


class Post(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A message to store, pending. `sender` is stamped by the gateway; "" (records.OUTGOING) is `to`'s own copy."""

    slot: SlotNumber
    to: Name
    sender: Name
    id: Id
    body: Body
    prekey: StoredPrekey
    epoch: Count
    """The session epoch of the writer."""
    after: RelayedId = b""
    """As in Send."""


class Forward(msgspec.Struct, array_like=True, frozen=True, tag=85):
    """Store these. An event, answered by Forwarded events with the same number that cover it part by part."""

    batch: Number
    posts: Annotated[list[Post], Items]


class Forwarded(msgspec.Struct, array_like=True, frozen=True, tag=86):
    """Results by the posts' places in their Forward. `known`: configurations that the gateway lacks."""

    batch: Number
    stored: Annotated[list[tuple[Index, UnixMs, Copies]], Items]
    """(place, stored_at in Unix ms, copies)."""
    refused: Annotated[list[tuple[Index, Code, Sentence, Count]], Items]
    """(place, error code, detail, value)."""
    known: Annotated[list[KnownConfig], Items]


class ArchiveWrite(msgspec.Struct, array_like=True, frozen=True, tag=87):
    """Store archive copies in a user's own mailbox: (sender, id, part, copy). Answered by Archived, or ARCHIVE_FULL.

    With `discard` no copies are kept: only that these messages were delivered.
    """

    name: Name
    epoch: Count
    items: Annotated[list[tuple[Name, Id, StoredPart, Handed]], Items]
    discard: bool = False


class Archived(msgspec.Struct, array_like=True, frozen=True, tag=88):
    """All of them are on a majority of disks."""


# --- Sessions: gateways attach at owners ------------------------------------------------------------------------


class AttachItem(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A session of a user at the gateway. `subscription`: the gateway's number of its wish for mail, 0 for none.

    `order` is what an owner gave this subscription, 0 for a new one: of two subscriptions the higher order wins.
    """

    name: Name
    epoch: Count
    subscription: Count
    order: Count


class Attach(msgspec.Struct, array_like=True, frozen=True, tag=89):
    """Attach sessions, or renew them; presence rests on it. Answered by Attached.

    A subscription that the owner does not have yet begins anew, from the first pending record.
    """

    items: Annotated[list[AttachItem], Items]


class SessionEnd(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Sessions of `name` with an epoch below `current` are superseded; with `ended` that of `current` is over too."""

    name: Name
    current: Count
    at: UnixMs
    """Unix ms at which the current session was taken."""
    ended: bool


class Attached(msgspec.Struct, array_like=True, frozen=True, tag=90):
    """Attached, but for what is named here."""

    over: Annotated[list[SessionEnd], Items]
    orders: Annotated[list[tuple[Name, Count, Count]], Items]
    """(name, subscription, order)."""
    elsewhere: Annotated[list[Name], Items]
    """Names of slots that the node is no member of, or that are forming."""
    known: Annotated[list[KnownConfig], Items]
    shared: Annotated[list[tuple[Name, Count]], Items] = []
    """Sessions that are at several gateways: (name, how many). These share what one session may ask."""


class Detach(msgspec.Struct, array_like=True, frozen=True, tag=91):
    """The gateway has no connection of these sessions any more: (name, epoch). An event."""

    items: Annotated[list[tuple[Name, Count]], Items]


class Push(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Mail for one subscription; `drained` and `certain`: see client_api.Drained, which it becomes."""

    name: Name
    subscription: Count
    items: Annotated[list[MailItem], Items]
    drained: bool
    certain: bool = True


class Deliver(msgspec.Struct, array_like=True, frozen=True, tag=92):
    """Mail for sessions of the gateway. An event."""

    pushes: Annotated[list[Push], Items]


class SessionsOver(msgspec.Struct, array_like=True, frozen=True, tag=93):
    """Sessions that have been taken over or ended. An event to the gateways that hold them."""

    items: Annotated[list[SessionEnd], Items]


class Unsubscribe(msgspec.Struct, array_like=True, frozen=True, tag=94):
    """A newer subscription elsewhere took these over: (name, subscription). An event to their gateway."""

    items: Annotated[list[tuple[Name, Count]], Items]


# --- Receipts, presence, reading --------------------------------------------------------------------------------


class RouteReceipts(msgspec.Struct, array_like=True, frozen=True, tag=95):
    """Receipts for the owner of their senders: (sender, to, id, state, Unix ms). An event, best effort.

    `passed_on`: they were sent to a node that does not act for the senders, and are not passed on once more.
    """

    items: Annotated[list[tuple[Name, Name, Id, RecordState, UnixMs]], Items]
    passed_on: bool = False


class DeliverReceipts(msgspec.Struct, array_like=True, frozen=True, tag=96):
    """The same for a gateway that has sessions of the senders. An event, best effort."""

    items: Annotated[list[tuple[Name, Name, Id, RecordState, UnixMs]], Items]


class PresenceAsk(msgspec.Struct, array_like=True, frozen=True, tag=97):
    """Ask an owner who is there. Answered by PresenceAnswer."""

    names: Annotated[list[Name], Items]


class PresenceAnswer(msgspec.Struct, array_like=True, frozen=True, tag=98):
    """Names that nobody has are missing; `elsewhere` are names that the node cannot speak for."""

    items: Annotated[list[PresenceItem], Items]
    elsewhere: Annotated[list[Name], Items]
    known: Annotated[list[KnownConfig], Items]


class StatesAsk(msgspec.Struct, array_like=True, frozen=True, tag=99):
    """Ask for the states of messages that `sender` sent to `to`. Answered by StatesAnswer."""

    to: Name
    sender: Name
    ids: Annotated[list[Id], Items]


class StatesAnswer(msgspec.Struct, array_like=True, frozen=True, tag=100):
    """(id, state or -1, changed_at) as in client_api.StatesReply."""

    items: Annotated[list[tuple[Id, StateOrNone, UnixMs]], Items]


class PageAsk(msgspec.Struct, array_like=True, frozen=True, tag=101):
    """Ask for a page of a user's archive. Answered by PageAnswer."""

    name: Name
    epoch: Count
    before: Cursor
    limit: Count


class PageAnswer(msgspec.Struct, array_like=True, frozen=True, tag=102):
    """Archived records, newest first, and the cursor of the next page (b"": no more)."""

    items: Annotated[list[MailItem], Items]
    next: Cursor


ChatMessage = (
    ReadAccount | AccountValue | CreateAccount | TakeSession | EndSession
    | Forward | Forwarded | ArchiveWrite | Archived
    | Attach | Attached | Detach | Deliver | SessionsOver | Unsubscribe
    | RouteReceipts | DeliverReceipts | PresenceAsk | PresenceAnswer | StatesAsk | StatesAnswer | PageAsk | PageAnswer
)  # fmt: skip
