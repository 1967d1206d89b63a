"""The bounds of everything that travels or is read back, each declared once, with its reason.

A field names one of these types, and the decoder refuses what lies outside; a test walks all types and fails for a
field without a bound (docs/decisions/0020). What is said here is what *no honest sender of any release goes beyond*: it
keeps a value from harming whoever reads it. A limit of policy (a quota, a page's size) may be lower; it is kept where
the request is served, with an error of its own.

`max_length` of a text counts characters, of which one takes up to four bytes; where bytes matter, who takes the text
counts them. Bounds of integers must fit 64 bits signed, so unsigned ones of 64 bits (`Digest64`) have no upper bound
but MessagePack's own.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .identifiers import MAX_NAME_BYTES, MAX_SLOTS, Uid

# --- Limits in numbers ---------------------------------------------------------------------------------------------

MAX_CLIENT_FRAME_BYTES = 1024 * 1024
MAX_CLIENT_FRAMES = 4096
"""Frames in one message of a client: each costs memory beside its bytes."""
MAX_PEER_FRAME_BYTES = 4 * 1024 * 1024
MAX_TEXT_BYTES = 65_536
"""A message's text, UTF-8."""
MAX_MESSAGE_BODY_BYTES = 72 * 1024
"""A message's body as sealed by the client (text, padding and overhead)."""
MAX_BODY_BYTES = 256 * 1024
"""The largest body of a record (an attachment part); a message's own limit is lower."""
MAX_OPAQUE_BYTES = 64 * 1024
"""The largest key bundle, and the largest vault: with the rest of an account they fit into one frame many times."""
MAX_PARTS = 4096
"""Parts of one message, the message itself among them: 1 GiB of attachments."""
MAX_PREKEY_BYTES = 64
"""The name of a prekey: a hash, with room for a longer one."""
MAX_MS = 253_370_764_800_000
"""The year 9999 begins: every time before it can be written in every time zone."""
MAX_COUNT = 1 << 53
"""What every language's numbers hold exactly; a million a second for 285 years."""
MAX_INT = (1 << 63) - 1
"""What SQLite holds."""
MAX_SENTENCE = 4096
"""Characters of a sentence for people. Who writes one that may become longer cuts it (`sentence`)."""
MAX_ITEMS = 65_536
"""Records, versions, sessions or the like in one frame: more than any release puts into one, and an array of so many
is no burden to whoever takes it apart."""
MAX_COPIES = 255
"""Members of a slot's configuration; replication factors are single digits."""
MAX_LISTED = 4096
"""Nodes in one node's view: successors, fingers, servers, uids that did not answer."""
MAX_LABEL = 255
"""Characters of a node's name, or of a host: what a file's name and a name of the DNS have at most."""
MAX_FRAMES = 1 << 20
"""Frames in one message between nodes: the smallest takes four bytes of its 4 MiB."""

# --- Numbers -------------------------------------------------------------------------------------------------------

UnixMs = Annotated[int, Meta(ge=0, lt=MAX_MS)]
"""Unix time in milliseconds, from 1970 to the end of 9998; 0 where there is none. No clock of a node or a client that
can make a message id stands before 1970."""
Count = Annotated[int, Meta(ge=0, lt=MAX_COUNT)]
"""How many, how long or how often: counters, epochs, incarnations, milliseconds that pass, bytes."""
Number = Annotated[int, Meta(ge=0, le=MAX_INT)]
"""What a process numbers its batches by: its start in milliseconds, shifted by 20 bits, and so above 2**53."""
RequestNumber = Annotated[int, Meta(ge=1, lt=MAX_COUNT)]
"""A client's own number of a request."""
ReplyNumber = Annotated[int, Meta(ge=0, lt=MAX_COUNT)]
"""The number of the request that is answered; 0 for an event."""
FrameNumber = Annotated[int, Meta(gt=-MAX_COUNT, lt=MAX_COUNT)]
"""A frame's number between nodes: above 0 a request, below 0 the answer to it, 0 an event."""
Digest64 = Annotated[int, Meta(ge=0, extra={"bound": "64 bits unsigned: MessagePack has no greater integers"})]
"""A digest of 8 bytes, as an integer."""
SlotNumber = Annotated[int, Meta(ge=0, lt=MAX_SLOTS)]
SlotOrNone = Annotated[int, Meta(ge=-1, lt=MAX_SLOTS)]
"""A slot, a position (the slot at whose first identifier a node stands), or -1 for none."""
SlotCount = Annotated[int, Meta(ge=0, le=MAX_SLOTS)]
CountOrNone = Annotated[int, Meta(ge=-1, lt=MAX_COUNT)]
Bucket = Annotated[int, Meta(ge=0, lt=256)]
BucketOrNone = Annotated[int, Meta(ge=-1, lt=256)]
"""A digest bucket, or -1 before the first."""
Part = Annotated[int, Meta(ge=0, lt=MAX_PARTS)]
"""A part's number, as a client may name it: 0 for the message itself, 1 and up for its attachments."""
StoredPart = Annotated[int, Meta(ge=0, le=MAX_INT)]
"""A part's number in a record that is held: releases before this bound took from clients whatever SQLite holds, and
such a record must still be found, repaired, handed over and given up."""
RecordState = Annotated[int, Meta(ge=0, le=3)]
"""As records.State."""
StateOrNone = Annotated[int, Meta(ge=-1, le=3)]
"""As records.State, -1 where nothing is held."""
Copies = Annotated[int, Meta(ge=0, le=MAX_COPIES)]
"""Disks or nodes: a replication factor, or how many have something."""
Port = Annotated[int, Meta(ge=0, le=65_535)]
"""A TCP port; 0 where there is none."""
OpenPort = Annotated[int, Meta(ge=1, le=65_535)]
LocalNodes = Annotated[int, Meta(ge=1, le=1000)]
"""Nodes of a ring on one machine: each takes ten ports."""
WireVersion = Annotated[int, Meta(ge=0, le=65_535)]
"""A version of a protocol or a format."""
Code = Annotated[int, Meta(ge=0, le=65_535)]
"""An errors.ErrorCode; one that the reader does not know is taken for INTERNAL."""
Index = Annotated[int, Meta(ge=0, lt=MAX_ITEMS)]
"""A place in a list of the request that is answered."""
Sign = Annotated[int, Meta(ge=-1, le=1)]
KdfMemory = Annotated[int, Meta(ge=0, lt=1 << 32)]
"""KiB. These three are RFC 9106's own; what a client is willing to spend on a server's word is far less."""
KdfPasses = Annotated[int, Meta(ge=0, lt=1 << 32)]
KdfLanes = Annotated[int, Meta(ge=0, lt=1 << 24)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(ge=-1e15, le=1e15)]
"""So many a second; negative where something shrinks. No NaN and no infinity passes."""
Seconds = Annotated[float, Meta(ge=0, le=1e12)]

# --- Bytes ---------------------------------------------------------------------------------------------------------

Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
"""A message's id."""
IdOrNone = Annotated[bytes, Meta(max_length=16)]
"""A message's id, empty for none. What is neither names no message."""
RelayedId = Annotated[bytes, Meta(max_length=MAX_CLIENT_FRAME_BYTES)]
"""The same where a node relays it among others' messages: releases before this bound passed on whatever a client
named, and one of them must not take the whole batch with it."""
Op = Annotated[bytes, Meta(min_length=16, max_length=16)]
"""What makes repeating a request harmless."""
OpOrNone = Annotated[bytes, Meta(max_length=16)]
Token = Annotated[bytes, Meta(min_length=32, max_length=32)]
TokenOrNone = Annotated[bytes, Meta(max_length=32)]
"""A token or the SHA-256 of one; empty for none."""
AuthHash = Annotated[bytes, Meta(max_length=128)]
"""bcrypt's 60 bytes, with room for another function's."""
Digest = Annotated[bytes, Meta(min_length=16, max_length=16)]
DigestOrNone = Annotated[bytes, Meta(max_length=16)]
Nonce = Annotated[bytes, Meta(min_length=12, max_length=12)]
Digests = Annotated[bytes, Meta(max_length=256 * 8)]
"""256 digests of 8 bytes."""
Bitmap = Annotated[bytes, Meta(max_length=MAX_SLOTS // 8)]
"""A bit a slot."""
Cursor = Annotated[bytes, Meta(max_length=64)]
"""A place in a list, of a node's making; empty for its beginning or its end."""
Body = Annotated[bytes, Meta(max_length=MAX_BODY_BYTES)]
"""A record's body: what a client sealed, or its archive copy."""
Handed = Annotated[bytes, Meta(max_length=MAX_CLIENT_FRAME_BYTES)]
"""What a client hands over to be kept. Its frame bounds it; the lower limit of its kind is answered with TOO_LARGE."""
Opaque = Annotated[bytes, Meta(max_length=MAX_OPAQUE_BYTES)]
"""A key bundle or a vault, as it is held."""
AccountBytes = Annotated[bytes, Meta(max_length=MAX_CLIENT_FRAME_BYTES)]
"""An encoded account: two opaque parts of 64 KiB, the rest a few KiB."""
Prekey = Annotated[bytes, Meta(max_length=MAX_PREKEY_BYTES)]
"""Which prekey a message is sealed to, as a client may name it; empty for none."""
StoredPrekey = Annotated[bytes, Meta(max_length=MAX_CLIENT_FRAME_BYTES)]
"""The same in a record that is held: as for `StoredPart`, there may be longer ones. None exceeds a client's frame."""

# --- Texts ---------------------------------------------------------------------------------------------------------

Name = Annotated[str, Meta(max_length=MAX_NAME_BYTES)]
"""A user name as PRECIS has normalised it; empty where records.OUTGOING may stand, or before the first in a list."""
RawName = Annotated[str, Meta(max_length=256)]
"""A user name as a person wrote it: normalising may shorten it to the 64 bytes that a name has at most."""
_UID = Meta(max_length=32, pattern=r"^[0-9a-z]*\Z")
NodeUid = Annotated[Uid, _UID]
"""A node's uid, empty for a node that is known by its address alone. Nothing in it deceives a terminal or a path."""
UidText = Annotated[str, _UID]
"""The same where it is only shown or compared."""
RingUid = Annotated[str, Meta(max_length=32, pattern=r"^[0-9a-f]{32}\Z")]
"""A ring's uid: 32 hexadecimal digits, which make a directory's name."""
RingUidOrNone = Annotated[str, Meta(max_length=32, pattern=r"^(?:[0-9a-f]{32})?\Z")]
"""The same, or empty: a node that waits for a ring, a local ring that was never started."""
Boot = Annotated[str, Meta(max_length=128)]
"""What is unique per process start."""
Proposer = Annotated[str, Meta(max_length=256)]
"""Who proposed a ballot, or runs a recovery: a uid, a boot, a number."""
Label = Annotated[str, Meta(max_length=MAX_LABEL)]
"""What people call a node or a program: a pod's or a directory's name, with or without a version."""
Host = Annotated[str, Meta(max_length=MAX_LABEL)]
"""An address or a name of the DNS (RFC 1035: 255 octets); empty where it is not known."""
Address = Annotated[str, Meta(max_length=512)]
"""host:port, or a URL of them."""
Word = Annotated[str, Meta(max_length=64)]
"""A state, a kind, a version or a time, as other programs read it."""
Base64 = Annotated[str, Meta(max_length=64)]
"""32 bytes as base64, which are 44 characters."""
TokenText = Annotated[str, Meta(max_length=44, pattern=r"^[0-9A-Za-z+/]{43}=\Z")]
"""A token of 32 bytes as base64."""
Hex = Annotated[str, Meta(max_length=40, pattern=r"^[0-9a-f]*\Z")]
"""An identifier of the ring: up to 40 hexadecimal digits."""
Sentence = Annotated[str, Meta(max_length=MAX_SENTENCE)]
"""What is said to people."""
Text = Annotated[str, Meta(max_length=MAX_TEXT_BYTES)]
"""A message's text."""

# --- How many ------------------------------------------------------------------------------------------------------

Frames = Meta(max_length=MAX_FRAMES)
Asked = Meta(max_length=MAX_CLIENT_FRAMES)
"""Items of one request of a client. Lower limits of a kind are answered with TOO_LARGE."""
Items = Meta(max_length=MAX_ITEMS)
"""Items of one frame between nodes, and of one to a client."""
PerSlot = Meta(max_length=MAX_SLOTS)
"""One item a slot at most."""
Members = Meta(max_length=MAX_COPIES)
"""Members of a configuration."""
Listed = Meta(max_length=MAX_LISTED)
"""Nodes in one node's view, or reasons that it gives."""
Nodes = Meta(max_length=MAX_ITEMS)
"""Nodes of one ring, and those that it ever met."""
Few = Meta(max_length=256)
"""Buckets, past sessions."""


def sentence(text: str) -> str:
    """Return a sentence that may travel: a longer one is cut."""
    return text if len(text) <= MAX_SENTENCE else text[: MAX_SENTENCE - 1] + "…"
