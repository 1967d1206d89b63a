"""Standard input, line by line, beside a running event loop.

A daemon thread reads, because regular files cannot be watched by the loop, and because making a terminal non-blocking
would do so for standard output and the shell as well. It reads from the descriptor, so no lock of the interpreter's
buffers is held when the process ends in the middle of a line.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator

CHUNK = 65_536


async def standard_input_lines(descriptor: int = 0) -> AsyncIterator[bytes]:
    """Yield the lines without their ends, the last one also if it has none."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(4)

    def read() -> None:
        while True:
            room.acquire()
            try:
                chunk = os.read(descriptor, CHUNK)
            except OSError:
                chunk = b""
            try:
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            except RuntimeError:
                return  # the loop is closed
            if not chunk:
                return

    threading.Thread(target=read, name="standard-input", daemon=True).start()
    rest: list[bytes] = []
    while chunk := await chunks.get():
        room.release()
        first, *others = chunk.split(b"\n")
        rest.append(first)
        for line in others:
            yield b"".join(rest).removesuffix(b"\r")
            rest = [line]
    if last := b"".join(rest):
        yield last.removesuffix(b"\r")
