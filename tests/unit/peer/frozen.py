"""A peer in a process of its own, to be stopped: prints its port, then links to whoever comes."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from tests.unit.peer.nodes import PATIENT, Node


async def main(number: int) -> None:
    node = await Node(number, PATIENT).start()
    print(node.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
