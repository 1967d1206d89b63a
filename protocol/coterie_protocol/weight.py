"""What an item weighs: the one truth for queues, frames, pages, quotas, debts and back-pressure.

Each `weight_of_…` is an upper bound of the item's length in a MessagePack array of items (a property test says so, and
that it is at most SLACK above), and counts every field whose length others choose. `weight_of_row` is what a record
takes of its mailbox's or archive's quota. Who fills a frame adds FRAME once, and closes it before its receiver's limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .records import Record

if TYPE_CHECKING:
    from .chat import Post
    from .client_api import MailItem
    from .records import Version
    from .registers import AccountPromise

_INT = 9
"""MessagePack's longest integer."""
_BLOB = 5
"""The longest header of text, bytes or an array."""
SLACK = 96
"""No item is this much shorter than its weight."""
FRAME = 128
"""What a frame has beside its items: the message's and the frame's headers, tag, numbers, a user's name."""
ROW = 256
"""What a record takes of a disk beside its fields: the fixed columns, and its entries in the indexes."""

_RECORD = 1 + 7 * _INT + 5 * _BLOB
_VERSION = 1 + 4 * _INT + 4 * _BLOB
_MAIL_ITEM = 1 + 4 * _INT + 4 * _BLOB
_POST = 1 + 2 * _INT + 6 * _BLOB
_COPY = 1 + _INT + 3 * _BLOB
_RECEIPT = 1 + 2 * _INT + 3 * _BLOB
_PROMISE = 1 + 2 * (1 + 2 * _INT + _BLOB) + 2 * _BLOB
_REFUSAL = 1 + 3 * _INT + _BLOB


def text_bytes(text: str) -> int:
    """Return how many bytes a text has as UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def weight_of_record(record: Record) -> int:
    """Return what a record weighs in a frame between nodes."""
    return (
        _RECORD
        + text_bytes(record.owner)
        + text_bytes(record.sender)
        + len(record.id)
        + len(record.body)
        + len(record.prekey)
    )


def weight_of_version(version: Version) -> int:
    """Return what a version of a record weighs."""
    return _VERSION + text_bytes(version.owner) + text_bytes(version.sender) + len(version.id) + len(version.digest)


def weight_of_mail_item(item: MailItem | Record) -> int:
    """Return what a record weighs as its owner's client sees it."""
    return _MAIL_ITEM + text_bytes(item.sender) + len(item.id) + len(item.body) + len(item.prekey)


def weight_of_post(post: Post) -> int:
    """Return what a message weighs on its way to its mailbox."""
    return (
        _POST
        + text_bytes(post.to)
        + text_bytes(post.sender)
        + len(post.id)
        + len(post.body)
        + len(post.prekey)
        + len(post.after)
    )


def weight_of_copy(sender: str, message_id: bytes, copy: bytes) -> int:
    """Return what an archive copy weighs: an item of Archive and ArchiveWrite."""
    return _COPY + text_bytes(sender) + len(message_id) + len(copy)


def weight_of_receipt(sender: str, to: str, message_id: bytes) -> int:
    """Return what a receipt weighs."""
    return _RECEIPT + text_bytes(sender) + text_bytes(to) + len(message_id)


def weight_of_promise(promise: AccountPromise) -> int:
    """Return what one account weighs in AccountPromises, its value included."""
    proposers = text_bytes(promise.promised.proposer) + text_bytes(promise.accepted.proposer)
    return _PROMISE + text_bytes(promise.name) + proposers + len(promise.value or b"")


def weight_of_refusal(detail: str) -> int:
    """Return what one refused place of Forwarded weighs."""
    return _REFUSAL + text_bytes(detail)


def weight_of_row(owner: str, sender: str, prekey: int, body: int) -> int:
    """Return what a record takes of its owner's quota; `prekey` and `body` are lengths in bytes."""
    return ROW + text_bytes(owner) + text_bytes(sender) + prekey + body
