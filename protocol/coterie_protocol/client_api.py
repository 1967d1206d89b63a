"""The client API: what a client and its gateway say to each other on one WebSocket (path /v1/client).

Requests are answered by exactly one reply with the same number, or by an Error. A server's events carry the number 0.
Bodies are opaque and begin with a version byte that only clients understand; version 0 is docs/protocol.md's.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from .bounds import MAX_CLIENT_FRAME_BYTES as MAX_CLIENT_FRAME_BYTES
from .bounds import MAX_CLIENT_FRAMES as MAX_CLIENT_FRAMES
from .bounds import MAX_MESSAGE_BODY_BYTES as MAX_MESSAGE_BODY_BYTES
from .bounds import MAX_PEER_FRAME_BYTES as MAX_PEER_FRAME_BYTES
from .bounds import MAX_TEXT_BYTES as MAX_TEXT_BYTES
from .bounds import (
    Address,
    Asked,
    Base64,
    Body,
    Code,
    Copies,
    Count,
    Cursor,
    Handed,
    Id,
    IdOrNone,
    Items,
    KdfLanes,
    KdfMemory,
    KdfPasses,
    Label,
    Listed,
    Name,
    Op,
    Opaque,
    Part,
    Prekey,
    RawName,
    RecordState,
    ReplyNumber,
    RequestNumber,
    RingUid,
    Sentence,
    SlotCount,
    StateOrNone,
    StoredPart,
    StoredPrekey,
    Token,
    TokenOrNone,
    UidText,
    UnixMs,
    WireVersion,
    Word,
)

PROTOCOL_LOW = 1
PROTOCOL_HIGH = 1
CLIENT_PATH = "/v1/client"
PEER_PATH = "/v1/peer"


class Kdf(msgspec.Struct, array_like=True, frozen=True):
    """Argon2id parameters (RFC 9106): memory in KiB, passes, lanes. The salt is SHA-256(ring uid, name)[:16]."""

    memory: KdfMemory
    passes: KdfPasses
    lanes: KdfLanes


# --- Requests ---------------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The client's first frame. Answered by Welcome."""

    version_low: WireVersion
    version_high: WireVersion
    program: Label


class Register(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Create an account and its first session. `op` (16 random bytes) makes repeating it harmless -> SessionGranted."""

    name: RawName
    kdf: Kdf
    auth: Base64
    """base64 of the 32-byte auth key that the client derived from the password."""
    keys: Handed
    """The public key bundle; opaque, empty until end-to-end encryption fills it."""
    vault: Handed
    """Opaque, empty until end-to-end encryption fills it."""
    op: Op


class LoginParams(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Ask how this account derives its auth key. -> LoginParamsReply or NO_SUCH_USER."""

    name: RawName


class Login(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Take the account's next session. -> SessionGranted, REFUSED, RATE_LIMITED."""

    name: RawName
    auth: Base64
    op: Op


class Resume(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Go on with a session by its resume token (32 bytes). -> SessionGranted, SUPERSEDED, REFUSED."""

    name: RawName
    token: Token


class Logout(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """End the session: its token is worth nothing afterwards. -> Done."""


class Subscribe(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """Deliver the mailbox on this connection: what waits, then Drained, then what comes. -> Done.

    Only one connection of a session is subscribed; the newest wins (the other gets Unsubscribed).
    """


class Send(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """Store a message for `to`.

    -> Stored, NO_SUCH_USER, TOO_LARGE, DUPLICATE_ID, MAILBOX_FULL, RATE_LIMITED, PREDECESSOR_MISSING.
    """

    to: RawName
    id: Id
    body: Handed
    prekey: Prekey = b""
    after: IdOrNone = b""
    """The id of a message to `to` that must be held where this one is stored; empty: of none."""


class Keep(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """Store the owner's own copy of what it is sending, pending: the session's next holder resends it. -> Stored."""

    id: Id
    body: Handed


class Archive(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """Acknowledge: these records are saved; each item is (sender, id, part, archive copy). -> Done once on a majority,
    or ARCHIVE_FULL, and nothing has changed.

    A record that was never pending may be archived too. The sender of own copies is "" (records.OUTGOING).
    """

    items: Annotated[list[tuple[RawName, Id, Part, Handed]], Asked]


class Page(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """Page through the archive, newest first; `before` is the cursor of the last page (b"" to begin). -> PageReply."""

    before: Cursor
    limit: Count


class States(msgspec.Struct, array_like=True, frozen=True, tag=12):
    """Ask for the states of messages that this user sent to `to`. -> StatesReply."""

    to: RawName
    ids: Annotated[list[Id], Asked]


class PresenceQuery(msgspec.Struct, array_like=True, frozen=True, tag=13):
    """Ask who is there. -> PresenceReply."""

    names: Annotated[list[RawName], Asked]


class Lookup(msgspec.Struct, array_like=True, frozen=True, tag=14):
    """Ask for a user's public account. -> LookupReply or NO_SUCH_USER."""

    name: RawName


class Discard(msgspec.Struct, array_like=True, frozen=True, tag=15):
    """Acknowledge without keeping a copy: (sender, id, part). For messages that are saved, while the archive is full.

    Their senders see them as delivered all the same. -> Done once on a majority.
    """

    items: Annotated[list[tuple[RawName, Id, Part]], Asked]


# --- Replies ----------------------------------------------------------------------------------------------------


class Limits(msgspec.Struct, array_like=True, frozen=True):
    """What this server takes at most: bytes, and sends a second."""

    text_bytes: Count
    body_bytes: Count
    frame_bytes: Count
    sends_per_second: Count


class Welcome(msgspec.Struct, array_like=True, frozen=True, tag=30):
    """The answer to Hello."""

    version: WireVersion
    ring_uid: RingUid
    node_uid: UidText
    node_name: Label
    state: Word
    """The node's state: forming, joining, syncing, ready, leaving, left."""
    replication_factor: Copies
    slots: SlotCount
    limits: Limits
    servers: Annotated[list[Address], Listed]
    """URLs of other nodes' client ports; a hint."""
    time_ms: UnixMs


class LoginParamsReply(msgspec.Struct, array_like=True, frozen=True, tag=31):
    """The answer to LoginParams."""

    kdf: Kdf


class SessionGranted(msgspec.Struct, array_like=True, frozen=True, tag=32):
    """A session: its epoch, its resume token (empty on Resume: the client has it), the account's opaque parts."""

    name: Name
    epoch: Count
    token: TokenOrNone
    keys: Opaque
    vault: Opaque


class Done(msgspec.Struct, array_like=True, frozen=True, tag=33):
    """It is done."""


class Stored(msgspec.Struct, array_like=True, frozen=True, tag=34):
    """The message is on `copies` disks, a majority of the replication factor at least; `stored_at` in Unix ms."""

    stored_at: UnixMs
    copies: Copies


class PageReply(msgspec.Struct, array_like=True, frozen=True, tag=35):
    """Archived records, newest first, and the cursor to go on with (b"": no more)."""

    items: Annotated[list[MailItem], Items]
    next: Cursor


class StatesReply(msgspec.Struct, array_like=True, frozen=True, tag=36):
    """For each id asked for: the record's state (records.State), -1 where nothing is held; and changed_at (Unix ms)."""

    items: Annotated[list[tuple[Id, StateOrNone, UnixMs]], Items]


class PresenceItem(msgspec.Struct, array_like=True, frozen=True):
    """One user's presence. `last_seen` in Unix ms, 0 when unknown."""

    name: Name
    online: bool
    last_seen: UnixMs


class PresenceReply(msgspec.Struct, array_like=True, frozen=True, tag=37):
    """The answer to PresenceQuery; names that nobody has are missing."""

    items: Annotated[list[PresenceItem], Items]


class LookupReply(msgspec.Struct, array_like=True, frozen=True, tag=38):
    """A user's public account."""

    name: Name
    keys: Opaque
    created_at: UnixMs


class Error(msgspec.Struct, array_like=True, frozen=True, tag=39):
    """A request failed: errors.ErrorCode, a sentence for people, and the code's number (see CoterieError)."""

    code: Code
    detail: Sentence
    value: Count = 0


# --- Events of the server ---------------------------------------------------------------------------------------


class MailItem(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A record of the user's mailbox as its client sees it."""

    sender: Name
    id: Id
    part: StoredPart
    state: RecordState
    body: Body
    prekey: StoredPrekey
    epoch: Count
    stored_at: UnixMs


class Mail(msgspec.Struct, array_like=True, frozen=True, tag=50):
    """Pending records. Each stays pending until the client archives it; a record may come more than once."""

    items: Annotated[list[MailItem], Items]


class Drained(msgspec.Struct, array_like=True, frozen=True, tag=51):
    """Everything that waited when the subscription began has been pushed and archived or is on its way in Mail.

    Not `certain`: nodes that are away may hold some of it alone. Then it is said again once that can no longer be.
    """

    certain: bool = True


class Receipt(msgspec.Struct, array_like=True, frozen=True, tag=52):
    """The recipient's client has saved these messages (state ARCHIVED) or they expired: (to, id, state, Unix ms)."""

    items: Annotated[list[tuple[Name, Id, RecordState, UnixMs]], Items]


class Superseded(msgspec.Struct, array_like=True, frozen=True, tag=53):
    """A later login took the session over at `at` (Unix ms). The server closes the connection after this."""

    at: UnixMs


class Unsubscribed(msgspec.Struct, array_like=True, frozen=True, tag=54):
    """Another connection of the same session has subscribed."""


class Closing(msgspec.Struct, array_like=True, frozen=True, tag=55):
    """The node is going away: reconnect to another."""


Request = (
    Hello | Register | LoginParams | Login | Resume | Logout | Subscribe | Send | Keep | Archive | Page | States
    | PresenceQuery | Lookup | Discard
)  # fmt: skip
Reply = (
    Welcome | LoginParamsReply | SessionGranted | Done | Stored | PageReply | StatesReply | PresenceReply
    | LookupReply | Error
)  # fmt: skip
Event = Mail | Drained | Receipt | Superseded | Unsubscribed | Closing
ANSWERS: dict[type[Request], type[Reply]] = {
    Hello: Welcome,
    Register: SessionGranted,
    LoginParams: LoginParamsReply,
    Login: SessionGranted,
    Resume: SessionGranted,
    Logout: Done,
    Subscribe: Done,
    Send: Stored,
    Keep: Stored,
    Archive: Done,
    Discard: Done,
    Page: PageReply,
    States: StatesReply,
    PresenceQuery: PresenceReply,
    Lookup: LookupReply,
}
"""What answers each request; anything else but an Error breaks the protocol."""


class ClientFrame(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A request of a client; `id` is the client's own number, above 0."""

    id: RequestNumber
    body: Request


class ServerFrame(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A reply (with the request's number) or an event (number 0)."""

    id: ReplyNumber
    body: Reply | Event
