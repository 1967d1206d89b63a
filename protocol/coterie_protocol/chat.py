"""Messages between gateways and acting owners (docs/protocol.md, "Delivery"). Tags 80 to 119."""

from __future__ import annotations

import msgspec


class ChatPlaceholder(msgspec.Struct, array_like=True, frozen=True, tag=80):
    """The room `chat` extends this file."""


ChatMessage = ChatPlaceholder
