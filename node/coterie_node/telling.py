"""Telling everybody who watches something, whatever becomes of one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ParamSpec

import structlog

log = structlog.get_logger()
P = ParamSpec("P")


def tell(watchers: Iterable[Callable[P, object]], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call each watcher; one that fails is named in the log, and the others hear of it all the same."""
    for watcher in watchers:
        try:
            watcher(*args, **kwargs)
        except Exception:
            log.exception("a watcher failed", watcher=getattr(watcher, "__qualname__", repr(watcher)))
