from __future__ import annotations

import base64
import hashlib

import pytest

from coterie_client import kdf
from coterie_client.errors import ClientError, UsageError
from coterie_protocol.client_api import Kdf

WEAK = Kdf(memory=8, passes=1, lanes=1)


def auth(password: str, *, ring: str = "r", name: str = "bob") -> str:
    return kdf.auth_key(kdf.root_key(password, ring_uid=ring, name=name, kdf=WEAK))


def test_the_key_depends_on_password_name_and_ring_only() -> None:
    keys = {auth("secret-1"), auth("secret-2"), auth("secret-1", name="eve"), auth("secret-1", ring="s")}
    assert len(keys) == 4
    assert auth("secret-1") in keys
    assert all(len(base64.b64decode(key)) == 32 for key in keys)


def test_the_salt_is_what_the_protocol_says() -> None:
    assert kdf.salt_of("r", "é") == hashlib.sha256("r\0é".encode()).digest()[:16]


def test_ways_to_type_the_same_password_are_the_same() -> None:
    assert auth("caf\u00e9 caf\u00e9") == auth("cafe\u0301\u00a0cafe\u0301")


def test_a_password_that_cannot_be_typed_is_refused() -> None:
    with pytest.raises(UsageError, match="typed"):
        auth("tab\tstop")


@pytest.mark.parametrize(("password", "reason"), [("", "empty"), ("1234567", "at least 8")])
def test_a_new_password_must_be_long_enough(password: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        kdf.check_password(password, new=True)


def test_an_old_password_may_be_short() -> None:
    kdf.check_password("1", new=False)


@pytest.mark.parametrize(
    ("parameters", "reason"), [(WEAK, "weak"), (Kdf(1 << 30, 3, 1), "excessive"), (Kdf(65536, 99, 1), "excessive")]
)
def test_hashing_that_a_server_should_not_ask_for_is_refused(parameters: Kdf, reason: str) -> None:
    with pytest.raises(ClientError, match=reason):
        kdf.check_parameters(parameters)


def test_the_default_is_accepted() -> None:
    kdf.check_parameters(kdf.DEFAULT)
