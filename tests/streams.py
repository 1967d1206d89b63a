"""Reads server-sent events, as the ring page's browser does."""

from __future__ import annotations

import aiohttp


async def next_event(response: aiohttp.ClientResponse) -> tuple[str, str]:
    """Return the next block of a stream: its event and its data, "" where it has none. Raises EOFError at the end."""
    event, data = "", ""
    while line := (await _line(response)).rstrip("\n"):
        field, _, value = line.partition(": ")
        if field == "event":
            event = value
        elif field == "data":
            data = value
    return event, data


async def _line(response: aiohttp.ClientResponse) -> str:
    line = await response.content.readline()
    if not line:
        raise EOFError
    return line.decode()
