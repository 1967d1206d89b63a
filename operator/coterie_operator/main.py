"""The program: it waits for its turn at the lease, looks after rings, and stops when told.

The order of an end matters: first nothing more is done, then the lease is given back. A process that lost the lease
ends, whatever hangs: what it believes is out of date.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import uuid
from typing import Any

import structlog

from . import logs
from .admin import Admin
from .arguments import CrdConfig, RunConfig
from .crd import CrdError, apply_crds, read_crds
from .events import Events
from .health import Health, serve
from .kube import KubeError, connect
from .lease import Elector
from .metrics import Metrics
from .reconcile import Tools
from .rings import Rings

FAILED = 1
LOST = 3
STOP_SECONDS = 4.5
"""After SIGTERM the process ends within 5 s, even if something hangs."""
LOST_SECONDS = 1.0
"""The same after the lease was lost: less than the lease's own margin, for the default duration."""
LEASE_SILENCE = 60.0
"""Seconds without an answer about the lease after which the operator counts as dead."""

log = structlog.get_logger()


def run(config: RunConfig | CrdConfig) -> int:
    """Run the program; return its exit code: 0 stopped as told, 1 failed, 3 lost the lease."""
    logs.set_up(config.log_level, config.log_format)
    work = _apply(config) if isinstance(config, CrdConfig) else _run(config)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            return asyncio.run(work)
    except (CrdError, KubeError, ValueError, OSError) as error:
        print(f"coterie-operator: {error}", file=sys.stderr, flush=True)
        return FAILED
    return 0


async def _apply(config: CrdConfig) -> int:
    crds = read_crds(config.file)
    kube = await connect(config.kubeconfig)
    try:
        for name in await apply_crds(kube, crds, config.timeout):
            print(f"{name} is served")
    finally:
        await kube.close()
    return 0


async def _run(config: RunConfig) -> int:
    """Serve health and metrics, and take turns."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _told, stop)
    metrics, health = Metrics(), Health()
    identity = f"{config.identity}_{uuid.uuid4().hex[:8]}"
    async with contextlib.AsyncExitStack() as stack:
        kube = await connect(config.kubeconfig, config.namespace)
        stack.push_async_callback(kube.close)
        # Connections of its own: the lease must not wait behind the work that it guards.
        turns = await connect(config.kubeconfig, config.namespace)
        stack.push_async_callback(turns.close)
        elector = Elector(
            turns, turns.namespace, config.lease_name, identity, config.lease_duration, owner=_owner(config)
        )
        kube.may_write = elector.check
        health.expect("lease", LEASE_SILENCE)
        turns.answered = lambda: health.beat("lease")
        health.ask(lambda: elector.trouble)
        await stack.enter_async_context(serve(health, metrics, config.metrics_port))
        admin = await stack.enter_async_context(Admin())
        log.info("standing by", lease=f"{turns.namespace}/{config.lease_name}", identity=identity)
        given = {(turns.namespace, config.own_ring[0]): config.own_ring[1]} if config.own_ring else {}
        events = Events(kube, identity)
        tools = Tools(kube, admin, events, metrics, health, config.node_image, config.permits, given)
        rings = Rings(tools, None if config.all_namespaces else kube.namespace, (turns.namespace, config.lease_name))
        return await _turn(elector, rings, metrics, stop)


async def _turn(elector: Elector, rings: Rings, metrics: Metrics, stop: asyncio.Event) -> int:
    """Wait for the lease, work while it is held, end; return the exit code."""
    stopped = asyncio.create_task(stop.wait(), name="stop")
    acquiring = asyncio.create_task(elector.acquire(), name="acquire")
    tasks: list[asyncio.Task[Any]] = [stopped, acquiring]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not acquiring.done():
            return 0
        acquiring.result()
        metrics.leader.set(1)
        working = asyncio.create_task(rings.run(), name="rings")
        holding = asyncio.create_task(elector.hold(), name="hold")
        tasks += [working, holding]
        await asyncio.wait([stopped, working, holding], return_when=asyncio.FIRST_COMPLETED)
        metrics.leader.set(0)
        if not elector.held:
            _end_within(LOST_SECONDS, LOST)
            return LOST
        if working.done() and not stopped.done():
            log.error("the loop ended", exc_info=working.exception())
            return FAILED
        return 0
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await elector.release()


def _told(stop: asyncio.Event) -> None:
    log.info("stopping")
    _end_within(STOP_SECONDS, FAILED)
    stop.set()


def _end_within(seconds: float, code: int) -> None:
    """End the process after a while, whatever hangs."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()


def _owner(config: RunConfig) -> dict[str, str] | None:
    if not (config.pod_name and config.pod_uid):
        return None
    return {"apiVersion": "v1", "kind": "Pod", "name": config.pod_name, "uid": config.pod_uid}
