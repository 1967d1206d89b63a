"""The rings that the operator looks after: a task for each, found by a watch and, should that miss one, by a list."""

from __future__ import annotations

import asyncio

import structlog

from .kube import POD, RING, Forbidden, KubeError, NotFound, NotLeader, Object, Unreachable
from .reconcile import DEAD_AFTER, RingLoop, Tools
from .rivals import LABELS, rivals, said
from .watch import Key, Seen, Watch

log = structlog.get_logger()

RELIST_SECONDS = 20.0
"""How often the rings are listed, besides being watched."""
RETRY_SECONDS = 5.0
"""The same while that fails, or nothing may be done."""
NO_CRD = (
    "this cluster does not know the kind Ring: install the CustomResourceDefinition rings.coterie.chat"
    " (helm does, or `coterie-operator apply-crd` with the file in the chart's crds folder); waiting for it"
)
LIST = "list of rings"
WATCH = "watch"


class Rings:
    """Keeps a task for every Ring in a namespace, or in all of them (None)."""

    def __init__(self, tools: Tools, namespace: str | None, lease: tuple[str, str]) -> None:
        """`lease` is the one by which this operator takes turns: its namespace and name."""
        self._tools = tools
        self._namespace = namespace
        self._lease = lease
        self._looked = False
        """Whether it is known if there are other operators: nothing is done before."""
        self._theirs: dict[str, str] = {}
        """The namespaces that other operators look after, and what is to be said of that."""
        self._loops: dict[Key, RingLoop] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._seen = Seen()
        self._watch = Watch(tools.kube, namespace, self.touch, self._seen)
        self._trouble = "the rings are not listed yet"

    async def run(self) -> None:
        """Work until cancelled."""
        self._tools.health.expect(LIST, DEAD_AFTER)
        self._tools.health.expect(WATCH, DEAD_AFTER)
        self._tools.health.ask(lambda: self._trouble)
        watching = asyncio.create_task(self._watch.run(), name="watch")
        try:
            while True:
                await self._relist()
                await asyncio.sleep(RELIST_SECONDS if not self._trouble else RETRY_SECONDS)
        finally:
            tasks = [watching, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def touch(self, key: Key) -> None:
        """Say that something about a ring has changed."""
        if not self._looked or key[0] in self._theirs:
            return
        if key not in self._tasks:
            loop = self._loops[key] = RingLoop(self._tools, key)
            task = self._tasks[key] = asyncio.create_task(loop.run(), name=f"ring {key[0]}/{key[1]}")
            task.add_done_callback(lambda done: self._ended(key, done))
        self._loops[key].touched.set()

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        loop = self._loops[key]
        del self._tasks[key], self._loops[key]
        if task.cancelled():
            return
        if (error := task.exception()) is None and loop.touched.is_set():
            self.touch(key)  # it came back while its loop was ending
        if error is not None and not isinstance(error, NotLeader):
            log.error("the loop of a ring ended", ring=f"{key[0]}/{key[1]}", exc_info=error)

    async def _stand_aside(self) -> None:
        """Leave the namespaces alone that another operator looks after. Raises KubeError."""
        try:
            pods = await self._tools.kube.list(POD, self._namespace, labels=LABELS)
        except Forbidden as error:
            log.warning("cannot see whether there are other operators", error=str(error))
            self._looked = True
            return
        found = rivals(pods, *self._lease, everywhere=self._namespace is None)
        theirs = {rival.namespace: said(rival) for rival in found}
        for namespace, sentence in theirs.items():
            if namespace not in self._theirs:
                log.error("stands aside", reason=sentence)
        self._theirs, self._looked = theirs, True
        for key, task in self._tasks.items():
            if key[0] in theirs:
                task.cancel()

    async def _relist(self) -> None:
        """Find rings that no event told of, and find out whether the watch lives."""
        try:
            await self._stand_aside()
            found = await self._tools.kube.list(RING, self._namespace)
        except KubeError as error:
            trouble = NO_CRD if isinstance(error, NotFound) else str(error)
            if trouble != self._trouble:
                log.error("cannot list the rings", error=trouble)
            self._trouble = trouble
            if not isinstance(error, Unreachable):
                self._tools.health.beat(LIST)
                self._tools.health.beat(WATCH)
            return
        # Of one namespace it has nothing to do, which is said; of all, the rest.
        self._trouble = "" if self._namespace is None else self._theirs.get(self._namespace, "")
        self._tools.health.beat(LIST)
        listed = {_key(ring): str(ring["metadata"]["resourceVersion"]) for ring in found}
        if self._seen.alive(listed) or self._watch.refused:
            self._tools.health.beat(WATCH)
        for key in listed.keys() - self._tasks.keys():
            self.touch(key)


def _key(ring: Object) -> Key:
    return ring["metadata"]["namespace"], ring["metadata"]["name"]
