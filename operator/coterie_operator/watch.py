"""The watch: kopf follows rings, StatefulSets, pods and claims, and says which ring to look at. It decides nothing.

Kopf cancels every task of its loop when it ends, and takes over the signals of its process. So it gets a thread and a
loop of its own, from where it may only call `touch`. It keeps no state in the cluster: no finalizer, no annotation, no
peering object, no event.

A watch can die without a sound. `Seen` finds that out by comparing with a list of the rings now and then.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kopf
import structlog

from .kube import CLAIM, POD, RING, STATEFUL_SET, Forbidden, Kind, Kube
from .names import RING_LABEL

log = structlog.get_logger()

Key = tuple[str, str]
"""Namespace and name of a ring."""
PARTS = (STATEFUL_SET, POD, CLAIM)
"""What rings are made of and changes by itself."""
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses before a watch that ended begins again; the last one for ever after."""
INACTIVITY_SECONDS = 70.0
"""The API sends a bookmark each minute; a stream that is silent for longer is dead."""


class Seen:
    """Which version of each ring the watch has shown."""

    def __init__(self) -> None:
        self._versions: dict[Key, str] = {}
        self._behind: set[tuple[Key, str]] = set()

    def note(self, key: Key, version: str | None) -> None:
        """Take down what the watch showed; None: the ring is gone."""
        if version is None:
            self._versions.pop(key, None)
        else:
            self._versions[key] = version

    def alive(self, listed: Mapping[Key, str]) -> bool:
        """Say whether the watch keeps up: it may lag behind a list, but not behind the same version twice."""
        behind = {(key, version) for key, version in listed.items() if self._versions.get(key) != version}
        behind |= {(key, "") for key in self._versions.keys() - listed.keys()}
        dead = behind & self._behind
        self._behind = behind
        return not dead


class Watch:
    """Runs kopf in a thread and calls back on the loop that made it.

    `namespace` None watches all of them. `touch` gets the key of a ring about which something changed.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str | None,
        touch: Callable[[Key], None],
        seen: Seen,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._touch = touch
        self._seen = seen
        self.refused = False
        """Whether it ended because the API refused it: nothing that a restart would mend."""
        # What kopf has to say about its end, `run` says in one line.
        logging.getLogger("kopf").setLevel(logging.CRITICAL)

    async def run(self) -> None:
        """Watch until cancelled; a watch that ends begins again."""
        failures = 0
        while True:
            loop = asyncio.get_running_loop()
            began = loop.time()
            said = "it ended"
            try:
                kinds = await self._readable()
                self.refused = False
                await self._once(loop, kinds)
            except Exception as error:
                # Kopf does not export its errors; they carry the HTTP status.
                self.refused = isinstance(error, Forbidden) or getattr(error, "status", None) == 403
                said = f"{type(error).__name__}: {error.args[0] if error.args else error}"
            failures = 0 if loop.time() - began > 2 * INACTIVITY_SECONDS else failures + 1
            pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
            log.error("the watch ended; rings are still looked at in turn", error=said, again_in=pause)
            await asyncio.sleep(pause)

    async def _readable(self) -> list[Kind]:
        """Return the kinds that may be watched: kopf gives up all of them when one is refused."""
        await self._kube.list(RING, self._namespace, limit=1)
        kinds = [RING]
        for kind in PARTS:
            try:
                await self._kube.list(kind, self._namespace, limit=1)
                kinds.append(kind)
            except Forbidden as error:
                log.error("not watched; changes are noticed within seconds only", kind=kind.plural, error=str(error))
        return kinds

    async def _once(self, loop: asyncio.AbstractEventLoop, kinds: Sequence[Kind]) -> None:
        """Run one life of kopf; return or raise when it ends."""
        stop: concurrent.futures.Future[None] = concurrent.futures.Future()
        ended: asyncio.Future[None] = loop.create_future()
        ended.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, even if nobody waits

        def tell(error: Exception | None) -> None:
            if ended.done():
                return
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(error)

        def live() -> None:
            error: Exception | None = None
            try:
                asyncio.run(self._kopf(loop, kinds, stop))
            except Exception as caught:
                error = caught
            with contextlib.suppress(RuntimeError):  # the operator's loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(tell, error)

        # A daemon: the process may end while kopf still winds down.
        threading.Thread(target=live, name="watch", daemon=True).start()
        try:
            await asyncio.shield(ended)
        finally:
            if not stop.done():
                stop.set_result(None)

    async def _kopf(
        self, loop: asyncio.AbstractEventLoop, kinds: Sequence[Kind], stop: concurrent.futures.Future[None]
    ) -> None:
        settings = kopf.OperatorSettings()
        settings.scanning.disabled = True
        settings.posting.enabled = False
        settings.watching.inactivity_timeout = INACTIVITY_SECONDS
        settings.watching.connect_timeout = 10
        settings.networking.request_timeout = 10
        settings.networking.error_backoffs = (1, 2, 5)
        await kopf.operator(
            registry=self._registry(loop, kinds),
            settings=settings,
            standalone=True,
            stop_flag=stop,
            clusterwide=self._namespace is None,
            namespaces=[] if self._namespace is None else [self._namespace],
        )

    def _registry(self, loop: asyncio.AbstractEventLoop, kinds: Sequence[Kind]) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            found = await self._kube.connection()
            return kopf.ConnectionInfo(
                server=found.server,
                ca_path=found.ca_path,
                insecure=not found.verify,
                scheme="Bearer" if found.token else None,
                token=found.token,
                certificate_path=found.certificate_path,
                private_key_path=found.key_path,
                default_namespace=found.namespace,
            )

        async def ring(**event: Any) -> None:
            key = (event["namespace"], event["name"])
            version = None if event["type"] == "DELETED" else str(event["meta"]["resourceVersion"])
            _call(loop, self._seen.note, key, version)
            _call(loop, self._touch, key)

        async def part(**event: Any) -> None:
            _call(loop, self._touch, (event["namespace"], event["labels"][RING_LABEL]))

        for kind in kinds:
            group, _, version = kind.api.rpartition("/")
            if kind is RING:
                kopf.on.event(group, version, kind.plural, registry=registry)(ring)
            else:
                labels = {RING_LABEL: kopf.PRESENT}
                kopf.on.event(group, version, kind.plural, labels=labels, registry=registry)(part)
        return registry


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the operator's loop is closed: it stops
        loop.call_soon_threadsafe(function, *arguments)
