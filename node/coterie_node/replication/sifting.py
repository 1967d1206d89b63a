"""Leaving out the records that cannot be stored, and saying which: they must not keep the others from their place."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from coterie_protocol.records import Record, fault_of

log = structlog.get_logger()


def sift(records: Sequence[Record], source: str) -> list[Record]:
    """Return the records that can be stored; name the others in the log, with whom they came from."""
    sound = []
    for record in records:
        if fault := fault_of(record):
            told = {"owner": record.owner[:80], "sender": record.sender[:80], "id": record.id[:16].hex()}
            log.warning("a record cannot be stored; it is left out", why=fault, source=source, **told)
        else:
            sound.append(record)
    return sound
