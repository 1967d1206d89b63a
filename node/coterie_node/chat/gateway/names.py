"""User names as clients write them, normalised once each."""

from __future__ import annotations

from coterie_protocol.errors import BadName
from coterie_protocol.identifiers import MAX_NAME_BYTES, UserName, slot_of_name, user_name

MOST = 20_000
FRESH = 4
"""What normalising a name costs, in lookups of one that is remembered."""
SHOWN = 32
"""Characters of an overlong name that its refusal shows."""


class Names:
    """Normalises names and says where they live; remembers, for PRECIS costs more than storing a message."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._known: dict[str, tuple[UserName, int]] = {}

    def cost(self, text: str) -> float:
        """Return what `get` costs, in lookups of a name that is remembered."""
        return 1 if text in self._known else FRESH

    def get(self, text: str) -> tuple[UserName, int]:
        """Return (normalised name, slot). Raises BadName."""
        found = self._known.get(text)
        if found is None:
            if len(text) > 4 * MAX_NAME_BYTES:
                # PRECIS would look at every character of a megabyte.
                raise BadName(text[:SHOWN] + "...", f"longer than {MAX_NAME_BYTES} bytes")
            name = user_name(text)
            found = (name, slot_of_name(name, self._slots))
            if len(self._known) >= MOST:
                del self._known[next(iter(self._known))]
            self._known[text] = found
        return found
