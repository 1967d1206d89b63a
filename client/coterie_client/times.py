"""Times as people and scripts read them. Any number may stand where a time should: a server's, a database's."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(unix_ms: int) -> datetime | None:
    """Return a time (Unix ms) in this machine's zone; None for a number that no calendar has a day for."""
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).astimezone()
    except (OverflowError, ValueError, OSError):
        return None


def rfc3339(unix_ms: int) -> str | None:
    """Write a time (Unix ms) as RFC 3339 in UTC, to the millisecond; None as in `moment`."""
    when = moment(unix_ms)
    if when is None:
        return None
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(unix_ms: int, pattern: str) -> str:
    """Write a time (Unix ms) in this machine's zone by a pattern of strftime; as question marks where it is none."""
    when = moment(unix_ms)
    if when is not None:
        return when.strftime(pattern)
    return datetime(2000, 1, 1, tzinfo=UTC).strftime(pattern).translate(dict.fromkeys(map(ord, "0123456789"), "?"))
