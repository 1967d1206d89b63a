"""A real Prometheus, Debian's, on loopback: for tests that ask what people would ask one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bench.ports import free_port
from monitoring.prometheus import NoAnswer, Prometheus, Series
from tests.kube.lab.processes import Processes
from tests.tools.wanted import PROMETHEUS

SCRAPE = 1.0
"""Seconds between two scrapes: the tests cannot wait for fifteen."""


@contextlib.contextmanager
def scraping(folder: Path, jobs: Mapping[str, Sequence[str]], rules: Sequence[Path] = ()) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes and evaluates rules each second; `jobs` has the addresses (host:port) of each.

    Raises CannotRun.
    """
    program = PROMETHEUS.program("prometheus")
    port = free_port(1)
    processes = Processes(folder)
    config = {
        "global": {"scrape_interval": f"{SCRAPE:g}s", "evaluation_interval": f"{SCRAPE:g}s"},
        "rule_files": [str(rule) for rule in rules],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(targets)}]} for job, targets in jobs.items()
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config))  # JSON is YAML
    processes.start(
        "prometheus",
        [
            program,
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ],
    )
    url = f"http://127.0.0.1:{port}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ready() -> bool:
        try:
            with opener.open(f"{url}/-/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        processes.until("prometheus", ready, 20.0)
        yield Prometheus(url)
    finally:
        processes.stop()


async def until_seen(
    prometheus: Prometheus, expression: str, what: Callable[[list[Series]], bool], seconds: float = 20.0
) -> list[Series]:
    """Wait until the answer to an expression fulfils something; return it."""
    deadline = time.monotonic() + seconds
    found: object = None
    while time.monotonic() < deadline:
        try:
            found = answer = await asyncio.to_thread(prometheus.instant, expression)
        except NoAnswer as error:
            found = error
        else:
            if what(answer):
                return answer
        await asyncio.sleep(0.2)
    raise AssertionError(f"{expression}, not within {seconds} s; last: {found}")
