"""Events on a Ring, for `kubectl describe` and `kubectl events`. What repeats is counted, not told again.

Events are a courtesy: one that cannot be written is logged, and the pass goes on.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

import structlog

from .kube import EVENT, RING, Kube, KubeError, NotFound
from .names import FIELD_MANAGER, KIND

log = structlog.get_logger()

NOTE_BYTES = 1024
"""The API takes no longer note."""
REMEMBERED = 256
"""Events that can still be counted on; the API server itself forgets them after an hour."""


class Events:
    """Writes Events; `instance` says which operator wrote them."""

    def __init__(self, kube: Kube, instance: str) -> None:
        self._kube = kube
        self._instance = instance[:128]
        self._told: OrderedDict[tuple[str, str, str, str], tuple[str, int]] = OrderedDict()
        """Name and count of the event that said a thing."""

    async def say(self, ring: dict[str, Any], type_: str, reason: str, message: str) -> None:
        """Tell about a ring. `type_` is Normal or Warning, `reason` CamelCase, the message a sentence for people."""
        note = _short(message)
        key = (ring["metadata"]["uid"], type_, reason, note)
        log.info("event", ring=_key(ring), type=type_, reason=reason, message=note)
        try:
            if not (key in self._told and await self._again(ring, key)):
                self._told[key] = (await self._new(ring, type_, reason, note), 1)
        except KubeError as error:
            log.warning("could not write an event", ring=_key(ring), reason=reason, error=str(error))
            return
        self._told.move_to_end(key)
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)

    async def _again(self, ring: dict[str, Any], key: tuple[str, str, str, str]) -> bool:
        """Count a repetition; False when the event is gone."""
        name, count = self._told[key]
        series = {"series": {"count": count + 1, "lastObservedTime": _now()}}
        try:
            await self._kube.merge(EVENT, ring["metadata"]["namespace"], name, series)
        except NotFound:
            return False
        self._told[key] = (name, count + 1)
        return True

    async def _new(self, ring: dict[str, Any], type_: str, reason: str, note: str) -> str:
        metadata = ring["metadata"]
        name = f"{metadata['name']}.{uuid.uuid4().hex[:16]}"
        await self._kube.create(
            EVENT,
            {
                "apiVersion": EVENT.api,
                "kind": "Event",
                "metadata": {"name": name, "namespace": metadata["namespace"]},
                "eventTime": _now(),
                "type": type_,
                "reason": reason,
                "action": "Reconcile",
                "note": note,
                "reportingController": f"coterie.chat/{FIELD_MANAGER}",
                "reportingInstance": self._instance,
                "regarding": {
                    "apiVersion": RING.api,
                    "kind": KIND,
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                    "uid": metadata["uid"],
                    "resourceVersion": metadata["resourceVersion"],
                },
            },
        )
        return name


def _short(message: str) -> str:
    if len(data := message.encode()) <= NOTE_BYTES:
        return message
    return data[: NOTE_BYTES - 3].decode(errors="ignore") + "…"


def _key(ring: dict[str, Any]) -> str:
    return f"{ring['metadata']['namespace']}/{ring['metadata']['name']}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
