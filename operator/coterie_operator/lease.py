"""Who of several operators acts: the one that holds a Lease. Everyone else watches it and waits.

Two clocks are never compared. A holder counts from the moment *before* it sent its renewal and gives up after three
quarters of the duration; a rival counts from the moment *after* it saw the record change and takes over after the
whole duration. So the holder has stopped before the rival begins, even when the API answers only one of them, or late.
"""

from __future__ import annotations

import asyncio
import enum
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from .kube import LEASE, Conflict, Kind, KubeError, NotLeader

log = structlog.get_logger()

GIVE_UP = 0.75
"""Part of the duration after which a holder that could not renew stops; the rest is the margin before a rival."""
RELEASE_SECONDS = 1.0
"""Giving the lease back saves a successor its wait; a stop must not hang on it."""


class LeaseApi(Protocol):
    """What an election needs of the API; kube.Kube has it."""

    async def find(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        """Return the Lease, or None."""
        ...

    async def create(self, kind: Kind, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create the Lease. Raises Conflict."""
        ...

    async def replace(self, kind: Kind, manifest: dict[str, Any]) -> dict[str, Any]:
        """Replace the Lease that was read. Raises Conflict."""
        ...


class _Turn(enum.Enum):
    """How one attempt at the lease ended."""

    HELD = enum.auto()
    OTHER = enum.auto()
    """Somebody else holds it."""
    AGAIN = enum.auto()
    """It changed while we looked."""


class Elector:
    """One contender for a lease. `duration` is in seconds; clock and sleep are handed in for tests.

    `owner` is a reference to what the lease goes with while we hold it: our pod, so that nothing is left behind.
    """

    def __init__(
        self,
        api: LeaseApi,
        namespace: str,
        name: str,
        identity: str,
        duration: float,
        *,
        owner: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._namespace, self._name, self.identity = namespace, name, identity
        self._duration = duration
        self._interval = duration / 3
        self._owner = owner
        self._clock, self._sleep = clock, sleep
        self._held_until = -math.inf
        self._seen = ("", 0.0)
        """The version of another's lease, and when we first saw it."""
        self.trouble = ""
        """Why the last attempt failed; empty when it was answered."""

    @property
    def held(self) -> bool:
        """Whether this process may act at this moment."""
        return self._clock() < self._held_until

    def check(self) -> None:
        """Raise NotLeader unless the lease is held."""
        if not self.held:
            raise NotLeader("the lease has run out")

    async def acquire(self) -> None:
        """Wait until the lease is held."""
        while await self._attempt_quietly(self._interval) is not _Turn.HELD:
            await self._sleep(self._interval)
        log.info("leading", lease=self._name, identity=self.identity)

    async def hold(self) -> None:
        """Renew the lease; return when it is lost."""
        while True:
            await self._sleep(self._interval)
            turn = await self._renew()
            if turn is not _Turn.HELD:
                self._held_until = -math.inf
                log.error("lost the lease", lease=self._name, taken=turn is _Turn.OTHER)
                return

    async def release(self) -> None:
        """Give the lease back, so that the next contender need not wait for it to run out."""
        if not self.held:
            return
        self._held_until = -math.inf
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                lease = await self._api.find(LEASE, self._namespace, self._name)
                if lease is not None and lease["spec"].get("holderIdentity") == self.identity:
                    del lease["spec"]["holderIdentity"]
                    await self._api.replace(LEASE, lease)
        except (KubeError, TimeoutError) as error:
            log.warning("could not give the lease back; it runs out by itself", error=str(error) or "no answer in time")

    async def _renew(self) -> _Turn:
        while (left := self._held_until - self._clock()) > 0:
            turn = await self._attempt_quietly(min(self._interval, left))
            if turn is not _Turn.AGAIN:
                return turn
            await self._sleep(min(self._interval / 10, left))
        return _Turn.AGAIN

    async def _attempt_quietly(self, limit: float) -> _Turn:
        """Try once; an API that fails or is silent counts as AGAIN, and is logged when it says something new."""
        try:
            async with asyncio.timeout(limit):
                turn = await self._attempt()
        except (KubeError, TimeoutError) as error:
            said = str(error) or f"the Kubernetes API did not answer within {limit:.1f} s"
            if said != self.trouble:
                log.warning("no turn at the lease", lease=self._name, error=said)
            self.trouble = said
            return _Turn.AGAIN
        self.trouble = ""
        return turn

    async def _attempt(self) -> _Turn:
        started = self._clock()
        lease = await self._api.find(LEASE, self._namespace, self._name)
        try:
            if lease is None:
                await self._api.create(LEASE, self._record(None))
            elif self._free(lease):
                await self._api.replace(LEASE, self._record(lease))
            else:
                return _Turn.OTHER
        except Conflict:
            return _Turn.AGAIN
        self._held_until = started + GIVE_UP * self._duration
        return _Turn.HELD

    def _free(self, lease: dict[str, Any]) -> bool:
        """Whether the lease is ours, nobody's, or has not been renewed for as long as it lasts."""
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity")
        if not holder or holder == self.identity:
            return True
        version, since = self._seen
        if version != lease["metadata"]["resourceVersion"]:
            version, since = self._seen = (lease["metadata"]["resourceVersion"], self._clock())
        return self._clock() >= since + max(self._duration, float(spec.get("leaseDurationSeconds") or 0))

    def _record(self, lease: dict[str, Any] | None) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        before = (lease or {}).get("spec") or {}
        ours = before.get("holderIdentity") == self.identity
        metadata = dict(lease["metadata"]) if lease else {"name": self._name, "namespace": self._namespace}
        if self._owner:
            metadata["ownerReferences"] = [dict(self._owner)]
        return {
            "apiVersion": LEASE.api,
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": math.ceil(self._duration),
                "acquireTime": before["acquireTime"] if ours and "acquireTime" in before else now,
                "renewTime": now,
                "leaseTransitions": int(before.get("leaseTransitions") or 0) + (not ours and lease is not None),
            },
        }
