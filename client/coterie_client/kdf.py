"""From a password to the key that logs in: the server never sees the password.

Argon2id (RFC 9106) over the PRECIS OpaqueString form (RFC 8265) of the password gives 32 bytes of root key; the salt is
SHA-256(ring uid, name)[:16], so that one password gives other keys in another ring or under another name. HKDF
(RFC 5869, SHA-256) with the info "coterie auth v1" makes the auth key of it; other infos make other keys.

A server names an account's parameters at login. It could name weak ones to guess the password by the auth key that it
then gets, or enormous ones to hurt the client, so both are refused (`MINIMUM`; `MAXIMUM` and `MOST_WORK`).

OpaqueString maps non-ASCII spaces to U+0020, normalises to NFC, and refuses characters that nobody can type reliably.
Only a new password must please it. One that an older client, or one that knows newer characters, has registered must
log in: it is mapped and normalised all the same, and the server says whether it is right.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata

from coterie_protocol.client_api import Kdf
from coterie_protocol.words import counted

from .errors import ClientError, UsageError

DEFAULT = Kdf(memory=64 * 1024, passes=3, lanes=1)
"""64 MiB, three passes, one lane: some 0.2 s of one core."""
MINIMUM = Kdf(memory=19 * 1024, passes=2, lanes=1)
"""OWASP's least memory for Argon2id with two passes."""
MAXIMUM = Kdf(memory=256 * 1024, passes=16, lanes=16)
MOST_WORK = 1024 * 1024
"""KiB times passes: about a second of one core, five times as much as DEFAULT."""
MIN_PASSWORD = 8
"""Characters; for new passwords."""
MAX_PASSWORD = 65_536
"""Characters; more is a file that was named by mistake."""


def check_password(password: str, *, new: bool) -> None:
    """Raise UsageError for no password and, if it is to be a new one, for one that is too short or hard to type."""
    if not password:
        raise UsageError("the password is empty; give one")
    if new and len(password) < MIN_PASSWORD:
        raise UsageError(
            f"the password has {counted(len(password), 'character')} and must have at least {MIN_PASSWORD}; "
            "choose a longer one"
        )
    if len(password) > MAX_PASSWORD:
        raise UsageError(f"the password has more than {MAX_PASSWORD} characters; choose a shorter one")
    if new:
        from precis_i18n import get_profile

        try:
            get_profile("OpaqueString").enforce(password)
        except UnicodeError:
            raise UsageError("the password has characters that cannot be typed reliably; choose another") from None


def check_parameters(kdf: Kdf, minimum: Kdf = MINIMUM) -> None:
    """Raise ClientError if a server names parameters below `minimum`, above MAXIMUM or of more than MOST_WORK."""
    low = kdf.memory < minimum.memory or kdf.passes < minimum.passes or kdf.lanes < minimum.lanes
    high = kdf.memory > MAXIMUM.memory or kdf.passes > MAXIMUM.passes or kdf.lanes > MAXIMUM.lanes
    high = high or kdf.memory * kdf.passes > MOST_WORK or kdf.memory < 8 * kdf.lanes
    if low or high:
        raise ClientError(
            f"the server asks for {'weak' if low else 'excessive'} password hashing ({kdf.memory} KiB, {kdf.passes} "
            f"passes, {kdf.lanes} lanes), so nothing was sent to it; ask its operator"
        )


def prepared(password: str) -> str:
    """Return the form of a password that is hashed; raises UsageError for what cannot be UTF-8."""
    from precis_i18n import get_profile

    try:
        return str(get_profile("OpaqueString").enforce(password))
    except UnicodeError:
        pass
    mapped = "".join(" " if unicodedata.category(char) == "Zs" else char for char in password)
    try:
        return unicodedata.normalize("NFC", mapped).encode().decode()
    except UnicodeError:
        raise UsageError("the password is not UTF-8 text; check where it comes from") from None


def root_key(password: str, *, ring_uid: str, name: str, kdf: Kdf = DEFAULT) -> bytes:
    """Derive the 32-byte root key. Takes a core for a while: keep it off the event loop. Raises UsageError."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    text = prepared(password)
    argon = Argon2id(
        salt=salt_of(ring_uid, name),
        length=32,
        iterations=kdf.passes,
        lanes=kdf.lanes,
        memory_cost=kdf.memory,
    )
    return argon.derive(text.encode())


def salt_of(ring_uid: str, name: str) -> bytes:
    """Return the 16-byte salt: SHA-256 of the ring uid, a zero byte and the name."""
    return hashlib.sha256(f"{ring_uid}\0{name}".encode()).digest()[:16]


def auth_key(root: bytes) -> str:
    """Derive the key that logs in, as base64 of its 32 bytes."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"coterie auth v1").derive(root)
    return base64.b64encode(key).decode()
