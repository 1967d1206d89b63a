"""The client API: what a client and its gateway say to each other on one WebSocket (path /v1/client).

Requests are answered by exactly one reply with the same number, or by an Error. A server's events carry the number 0.
Bodies are opaque and begin with a version byte that only clients understand; version 0 is docs/protocol.md's.
"""

from __future__ import annotations

import msgspec

from .bounds import MAX_CLIENT_FRAME_BYTES as MAX_CLIENT_FRAME_BYTES
from .bounds import MAX_CLIENT_FRAMES as MAX_CLIENT_FRAMES
from .bounds import MAX_MESSAGE_BODY_BYTES as MAX_MESSAGE_BODY_BYTES
from .bounds import MAX_PEER_FRAME_BYTES as MAX_PEER_FRAME_BYTES
from .bounds import MAX_TEXT_BYTES as MAX_TEXT_BYTES

PROTOCOL_LOW = 1
PROTOCOL_HIGH = 1
CLIENT_PATH = "/v1/client"
PEER_PATH = "/v1/peer"


class Kdf(msgspec.Struct, array_like=True, frozen=True):
    """Argon2id parameters (RFC 9106): memory in KiB, passes, lanes. The salt is SHA-256(ring uid, name)[:16]."""

    memory: int
    passes: int
    lanes: int


# --- Requests ---------------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The client's first frame. Answered by Welcome."""

    version_low: int
    version_high: int
    program: str


class Register(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Create an account and its first session. `op` (16 random bytes) makes repeating it harmless -> SessionGranted."""

    name: str
    kdf: Kdf
    auth: str
    """base64 of the 32-byte auth key that the client derived from the password."""
    keys: bytes
    """The public key bundle; opaque, empty until end-to-end encryption fills it."""
    vault: bytes
    """Opaque, empty until end-to-end encryption fills it."""
    op: bytes


class LoginParams(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Ask how this account derives its auth key. -> LoginParamsReply or NO_SUCH_USER."""

    name: str


class Login(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Take the account's next session. -> SessionGranted, REFUSED, RATE_LIMITED."""

    name: str
    auth: str
    op: bytes


class Resume(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Go on with a session by its resume token (32 bytes). -> SessionGranted, SUPERSEDED, REFUSED."""

    name: str
    token: bytes


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

    to: str
    id: bytes
    body: bytes
    prekey: bytes = b""
    after: bytes = b""
    """The id of a message to `to` that must be held where this one is stored; empty: of none."""


class Keep(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """Store the owner's own copy of what it is sending, pending: the session's next holder resends it. -> Stored."""

    id: bytes
    body: bytes


class Archive(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """Acknowledge: these records are saved; each item is (sender, id, part, archive copy). -> Done once on a majority,
    or ARCHIVE_FULL, and nothing has changed.

    A record that was never pending may be archived too. The sender of own copies is "" (records.OUTGOING).
    """

    items: list[tuple[str, bytes, int, bytes]]


class Page(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """Page through the archive, newest first; `before` is the cursor of the last page (b"" to begin). -> PageReply."""

    before: bytes
    limit: int


class States(msgspec.Struct, array_like=True, frozen=True, tag=12):
    """Ask for the states of messages that this user sent to `to`. -> StatesReply."""

    to: str
    ids: list[bytes]


class PresenceQuery(msgspec.Struct, array_like=True, frozen=True, tag=13):
    """Ask who is there. -> PresenceReply."""

    names: list[str]


class Lookup(msgspec.Struct, array_like=True, frozen=True, tag=14):
    """Ask for a user's public account. -> LookupReply or NO_SUCH_USER."""

    name: str


class Discard(msgspec.Struct, array_like=True, frozen=True, tag=15):
    """Acknowledge without keeping a copy: (sender, id, part). For messages that are saved, while the archive is full.

    Their senders see them as delivered all the same. -> Done once on a majority.
    """

    items: list[tuple[str, bytes, int]]


# --- Replies ----------------------------------------------------------------------------------------------------


class Limits(msgspec.Struct, array_like=True, frozen=True):
    """What this server takes at most: bytes, and sends a second."""

    text_bytes: int
    body_bytes: int
    frame_bytes: int
    sends_per_second: int


class Welcome(msgspec.Struct, array_like=True, frozen=True, tag=30):
    """The answer to Hello."""

    version: int
    ring_uid: str
    node_uid: str
    node_name: str
    state: str
    """The node's state: forming, joining, syncing, ready, leaving, left."""
    replication_factor: int
    slots: int
    limits: Limits
    servers: list[str]
    """URLs of other nodes' client ports; a hint."""
    time_ms: int


class LoginParamsReply(msgspec.Struct, array_like=True, frozen=True, tag=31):
    """The answer to LoginParams."""

    kdf: Kdf


class SessionGranted(msgspec.Struct, array_like=True, frozen=True, tag=32):
    """A session: its epoch, its resume token (empty on Resume: the client has it), the account's opaque parts."""

    name: str
    epoch: int
    token: bytes
    keys: bytes
    vault: bytes


class Done(msgspec.Struct, array_like=True, frozen=True, tag=33):
    """It is done."""


class Stored(msgspec.Struct, array_like=True, frozen=True, tag=34):
    """The message is on `copies` disks, a majority of the replication factor at least; `stored_at` in Unix ms."""

    stored_at: int
    copies: int


class PageReply(msgspec.Struct, array_like=True, frozen=True, tag=35):
    """Archived records, newest first, and the cursor to go on with (b"": no more)."""

    items: list[MailItem]
    next: bytes


class StatesReply(msgspec.Struct, array_like=True, frozen=True, tag=36):
    """For each id asked for: the record's state (records.State), -1 where nothing is held; and changed_at (Unix ms)."""

    items: list[tuple[bytes, int, int]]


class PresenceItem(msgspec.Struct, array_like=True, frozen=True):
    """One user's presence. `last_seen` in Unix ms, 0 when unknown."""

    name: str
    online: bool
    last_seen: int


class PresenceReply(msgspec.Struct, array_like=True, frozen=True, tag=37):
    """The answer to PresenceQuery; names that nobody has are missing."""

    items: list[PresenceItem]


class LookupReply(msgspec.Struct, array_like=True, frozen=True, tag=38):
    """A user's public account."""

    name: str
    keys: bytes
    created_at: int


class Error(msgspec.Struct, array_like=True, frozen=True, tag=39):
    """A request failed: errors.ErrorCode, a sentence for people, and the code's number (see CoterieError)."""

    code: int
    detail: str
    value: int = 0


# --- Events of the server ---------------------------------------------------------------------------------------


class MailItem(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A record of the user's mailbox as its client sees it."""

    sender: str
    id: bytes
    part: int
    state: int
    body: bytes
    prekey: bytes
    epoch: int
    stored_at: int


class Mail(msgspec.Struct, array_like=True, frozen=True, tag=50):
    """Pending records. Each stays pending until the client archives it; a record may come more than once."""

    items: list[MailItem]


class Drained(msgspec.Struct, array_like=True, frozen=True, tag=51):
    """Everything that waited when the subscription began has been pushed and archived or is on its way in Mail.

    Not `certain`: nodes that are away may hold some of it alone. Then it is said again once that can no longer be.
    """

    certain: bool = True


class Receipt(msgspec.Struct, array_like=True, frozen=True, tag=52):
    """The recipient's client has saved these messages (state ARCHIVED) or they expired: (to, id, state, Unix ms)."""

    items: list[tuple[str, bytes, int, int]]


class Superseded(msgspec.Struct, array_like=True, frozen=True, tag=53):
    """A later login took the session over at `at` (Unix ms). The server closes the connection after this."""

    at: int


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


class ClientFrame(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A request of a client; `id` is the client's own number, above 0."""

    id: int
    body: Request


class ServerFrame(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A reply (with the request's number) or an event (number 0)."""

    id: int
    body: Reply | Event
