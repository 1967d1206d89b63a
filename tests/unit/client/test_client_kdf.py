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


@pytest.mark.parametrize("password", ["tab\tstop, long enough", "unassigned \u0378 character", "\u202e turned around"])
def test_a_password_that_cannot_be_typed_is_refused_when_new_but_logs_in(password: str) -> None:
    """An older client, or one that knows newer characters, may have registered it."""
    with pytest.raises(UsageError, match="typed"):
        kdf.check_password(password, new=True)
    kdf.check_password(password, new=False)
    assert auth(password) == auth(password.replace(" ", "\u2003"))


def test_a_password_that_no_client_can_have_registered_is_said() -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        auth("\udcff")


@pytest.mark.parametrize(("password", "reason"), [("", "empty"), ("1234567", "at least 8")])
def test_a_new_password_must_be_long_enough(password: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        kdf.check_password(password, new=True)


def test_an_old_password_may_be_short() -> None:
    kdf.check_password("1", new=False)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (WEAK, "weak"),
        (Kdf(1 << 30, 3, 1), "excessive"),
        (Kdf(65536, 99, 1), "excessive"),
        (Kdf(262_145, 3, 1), "excessive"),
        (Kdf(262_144, 5, 1), "excessive"),
        (Kdf(65_536, 3, 1 << 20), "excessive"),
    ],
)
def test_hashing_that_a_server_should_not_ask_for_is_refused(parameters: Kdf, reason: str) -> None:
    with pytest.raises(ClientError, match=reason):
        kdf.check_parameters(parameters)


def test_the_default_and_what_takes_a_second_are_accepted() -> None:
    kdf.check_parameters(kdf.DEFAULT)
    kdf.check_parameters(kdf.MINIMUM)
    kdf.check_parameters(Kdf(256 * 1024, 4, 4))
