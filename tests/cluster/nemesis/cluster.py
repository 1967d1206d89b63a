"""The ring under the nemesis: node processes whose network, disk and clock it holds."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.cluster.harness import Node, Ring, changed_environment, get_json, post
from tests.cluster.nemesis import disk, network

from coterie_client.errors import ClientError
from coterie_client.local import admin
from coterie_client.local.place import NodePlace
from coterie_client.local.process import start_node

CARELESS = Path(__file__).with_name("careless.py")
"""A node whose store does not wait for the disk: to show that this would be noticed."""
SETTINGS = {
    "COTERIE_NODE_REPLACE_AFTER": "4",
    "COTERIE_NODE_LOGINS_PER_ADDRESS": "1000000",
    "COTERIE_NODE_PENDING_RECORDS": "1000000",
}
"""Quick replacement, so that a run meets many; and limits out of the way of people who all come from one address."""


class Victim(Node):
    """A node process in the nemesis' hands."""

    def __init__(
        self,
        place: NodePlace,
        number: int,
        command: Callable[[], list[str]],
        environment: dict[str, str],
        library: Path | None,
    ) -> None:
        super().__init__(place, command, environment)
        self.number = number
        self.disk = disk.Disk(library, place.data, network.listen_host(number)) if library is not None else None
        self.starts = 0
        self.expected = False
        """Whether it should be running as far as the nemesis knows."""
        self.cut = False
        """Whether synced commits were cut off its log: it may find that out at any time, and stop."""

    def start(self, *arguments: str) -> None:
        assert not self.running
        self.starts += 1
        self.expected = True
        shim = self.disk.environment() if self.disk is not None else {}
        # Detached: what runs between fork and exec otherwise could hang in a process that has threads. The shim sees to
        # it that the node ends with us.
        with changed_environment({**self._environment, **shim}):
            self._process = start_node(self.place, [*self._command(), *arguments], detach=True)

    async def kill_now(self) -> None:
        """SIGKILL, and wait until it is gone. One that is frozen dies of it, too."""
        self.expected = False
        self.signal(signal.SIGKILL)
        await asyncio.to_thread(self.wait, 10.0)

    async def terminate_now(self) -> int:
        """SIGTERM, and wait; returns the exit code, or kills it after 12 s."""
        self.expected = False
        self.signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(self.wait, 12.0)
        except Exception:
            await self.kill_now()
            return -signal.SIGKILL

    def wipe(self) -> None:
        super().wipe()
        self.cut = False
        if self.disk is not None:
            self.disk.forget()

    @property
    def found_damage(self) -> bool:
        """Say whether it has stopped because of what was done to its disk."""
        return self.cut and not self.running and "is damaged" in self.last_words

    @property
    def database(self) -> Path:
        return self.place.data / "coterie.db"

    async def ready_within(self, seconds: float) -> bool:
        """Say whether the node becomes ready in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.running:
            with contextlib.suppress(ClientError):
                if (await asyncio.to_thread(admin.readiness, self.place.admin_url)).ready:
                    return True
            await asyncio.sleep(0.1)
        return False

    async def state(self) -> str:
        """Return the node's state, "" if it does not say."""
        with contextlib.suppress(ClientError):
            return (await asyncio.to_thread(admin.readiness, self.place.admin_url)).state
        return ""

    async def ask_to(self, what: str, token: str) -> bool:
        """POST leave or cancel-leave; say whether it was accepted."""
        return await asyncio.to_thread(post, f"{self.place.admin_url}/api/v1/{what}", token) == 202


class Cluster(Ring):
    """Nodes, and the network between them."""

    nodes: list[Victim]  # type: ignore[assignment]

    def __init__(self, directory: Path, nodes: int, library: Path | None, *, careless: bool = False) -> None:
        self._library = library
        self.careless = careless
        """Whether nodes that are started do not wait for the disk."""
        self.with_network = not network.why_not()
        super().__init__(directory, nodes, SETTINGS)
        self.begun = nodes
        """How many nodes the ring began with."""
        self.network = network.Network(self._pids)

    def add(self) -> Victim:
        """Add a node that never ran; the network is told by `stand`."""
        at = self._places[len(self.nodes)]
        number = len(self.nodes) + 1
        plain = super().add()
        self.nodes.pop()

        def command() -> list[str]:
            return self._rewritten(plain._command(), number)

        node = Victim(at, number, command, self._environment, self._library)
        self.nodes.append(node)
        return node

    def _rewritten(self, words: list[str], number: int) -> list[str]:
        """Put the node behind its proxy, and let it find the others behind theirs."""
        if self.careless:
            words = [words[0], str(CARELESS), *words[words.index("run") :]]
        if not self.with_network:
            return words
        hosts = {f"127.0.0.1:{node.place.peer_port}": network.public_host(node.number) for node in self.nodes}
        result = list(words)
        for at, word in enumerate(words):
            if word == "--listen-peer":
                result[at + 1] = words[at + 1].replace("127.0.0.1", network.listen_host(number))
            elif word == "--advertise":
                result[at + 1] = network.public_host(number)
            elif word == "--seed":
                result[at + 1] = words[at + 1].replace("127.0.0.1", hosts[words[at + 1]])
        return result

    async def begin(self) -> None:
        """Start the nodes for the first time, and wait until the ring is whole."""
        for node in self.nodes:
            await self.stand(node)
        self.start()
        report = await self.ready(60.0)
        # From now on nobody founds: a first node that has lost its disk must join.
        self._file.ring_uid = report.ring_uid

    async def end(self) -> None:
        """Stop all nodes and the network."""
        for node in self.nodes:
            node.expected = False
        await asyncio.to_thread(self.stop)
        await self.network.close()

    async def stand(self, node: Victim) -> None:
        """Put the network in front of a node."""
        if self.with_network:
            await self.network.add(network.Place(node.name, node.number, node.place.peer_port))

    def _pids(self) -> dict[int, str]:
        return {node.pid: node.name for node in self.nodes if node.running}

    @property
    def spare(self) -> int:
        """Return how many nodes may still be added."""
        return len(self._places) - len(self.nodes)

    @property
    def live(self) -> list[Victim]:  # type: ignore[override]
        return [node for node in self.nodes if node.running]

    async def whole(self, seconds: float, *, count: int | None = None) -> str:
        """Wait until the ring says, twice in a row, that nothing is missing anywhere; return "" or what it says."""
        deadline = time.monotonic() + seconds
        said, good = "nothing yet", 0
        while True:
            expected = len([node for node in self.nodes if node.expected]) if count is None else count
            try:
                report = await asyncio.to_thread(self.report)
            except ClientError as error:
                said, good = str(error), 0
            else:
                states = sorted(f"{member.name}:{member.state}" for member in report.members)
                missing = report.slots_under_replicated, report.slots_unowned, report.slots_forming
                ready = sum(member.state == "ready" for member in report.members)
                left = sum(member.state == "left" for member in report.members)  # a run that was ended early
                said = f"{expected} nodes run; {' '.join(states)}; under-replicated, unowned, forming: {missing}"
                good = good + 1 if ready == expected - left == len(report.members) - left and not any(missing) else 0
                if good >= 2:
                    return ""
            if time.monotonic() > deadline:
                return said
            await asyncio.sleep(0.3)

    async def acting_for(self, slot: int, among: Sequence[Victim]) -> Victim | None:
        """Return who says that it acts for a slot."""
        for node in among:
            with contextlib.suppress(OSError, ValueError, KeyError):
                reports = await asyncio.to_thread(get_json, f"{node.place.admin_url}/api/v1/slots")
                acting = next((one["acting"] for one in reports if one["slot"] == slot), None)
                for other in among:
                    if (await asyncio.to_thread(get_json, f"{other.place.admin_url}/api/v1/node"))["uid"] == acting:
                        return other
        return None


def registers(database: Path, *, read_only: bool) -> list[object]:
    """Return everything in a store that is not a mailbox record, but for what is only remembered."""
    uri = f"file:{database}" + ("?mode=ro" if read_only else "")
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        return [
            sorted(map(repr, connection.execute(f"SELECT * FROM {table}")))
            for table in ("mark", "slot_registers", "accounts", "meta WHERE key NOT IN ('peers', 'store.probe')")
        ]
