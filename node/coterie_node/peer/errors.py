"""What can go wrong with links.

CoterieError
├── Refused                      the two nodes do not belong together; carries the other's hello
└── Unavailable
    ├── SelfContact              the address is this node's own
    └── Unreachable              the other could never reach this node where it listens
"""

from __future__ import annotations

from coterie_protocol.errors import CoterieError, ErrorCode, Unavailable
from coterie_protocol.nodes import PeerHello


class Refused(CoterieError):
    """One of two nodes refused the other: WRONG_RING, WRONG_SETTINGS or UNSUPPORTED_VERSION. `hello` is the other's."""

    def __init__(self, detail: str, code: ErrorCode, hello: PeerHello) -> None:
        super().__init__(detail, code=code)
        self.hello = hello


class SelfContact(Unavailable):
    """Who answered is this node itself."""


class Unreachable(Unavailable):
    """This node listens where only its own machine can reach it, and the other is on another one."""
