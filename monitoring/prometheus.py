"""Asking a Prometheus as Grafana does: variables put in, one moment or a range."""

from __future__ import annotations

import json
import math
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .listing import Query

EVERYTHING = {"namespace": ".*", "ring": ".*", "node": ".*"}
"""The variables with "All" chosen in each."""


class NoAnswer(Exception):
    """A Prometheus cannot be asked, or finds a question wrong; the text says why."""


@dataclass(frozen=True)
class Series:
    """A series of an answer: its labels, and its points as (Unix seconds, value)."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def value(self) -> float:
        """Return the newest value."""
        return self.points[-1][1]


@dataclass(frozen=True)
class Window:
    """The dashboard's time range, and how often Prometheus scrapes. All in seconds; `end` is Unix time."""

    end: float
    length: float = 60.0
    step: float = 1.0
    scrape: float = 1.0

    @property
    def rate_interval(self) -> float:
        """Return `$__rate_interval`: a step and a scrape more, but at least four scrapes."""
        return max(self.step + self.scrape, 4 * self.scrape)


@dataclass
class Prometheus:
    """A Prometheus at a base URL such as http://127.0.0.1:9090."""

    url: str
    variables: Mapping[str, str] = field(default_factory=lambda: dict(EVERYTHING))

    def ask(self, query: Query, window: Window) -> list[Series]:
        """Execute a query of a dashboard. Raises NoAnswer."""
        expression = self.filled(query.expression, window)
        if query.instant:
            return self.instant(expression, window.end)
        values = {"start": window.end - window.length, "end": window.end, "step": window.step}
        return self._series("query_range", {"query": expression, **values})

    def instant(self, expression: str, at: float | None = None) -> list[Series]:
        """Evaluate an expression at a moment in Unix seconds (default: now). Raises NoAnswer."""
        when = {} if at is None else {"time": at}
        return self._series("query", {"query": expression, **when})

    def filled(self, expression: str, window: Window) -> str:
        """Put the variables' values where their names stand."""
        known = {
            "__rate_interval": f"{window.rate_interval:g}s",
            "__interval": f"{window.step:g}s",
            "__range": f"{window.length:g}s",
            **self.variables,
        }
        for name in sorted(known, key=len, reverse=True):
            expression = expression.replace(f"${{{name}}}", known[name]).replace(f"${name}", known[name])
        return expression

    def _series(self, path: str, parameters: Mapping[str, object]) -> list[Series]:
        answer = self.get(path, parameters)
        if answer["resultType"] == "scalar":
            answer = {"result": [{"metric": {}, "value": answer["result"]}]}
        return [
            Series(
                one["metric"],
                [(float(at), float(value)) for at, value in (one["values"] if "values" in one else [one["value"]])],
            )
            for one in answer["result"]
        ]

    def get(self, path: str, parameters: Mapping[str, object] | None = None) -> Any:
        """Return the data of an answer of `/api/v1/…`. Raises NoAnswer."""
        body = urllib.parse.urlencode(parameters).encode() if parameters else None
        request = urllib.request.Request(f"{self.url}/api/v1/{path}", body)  # noqa: S310 (http: the caller's URL)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise NoAnswer(f"{error.code}: {error.read().decode(errors='replace')[:1000]}") from error
        except (OSError, ValueError) as error:
            raise NoAnswer(f"{self.url} does not answer as a Prometheus: {error}") from error


def run_queries(prometheus: Prometheus, asked: Iterable[Query], window: Window) -> dict[Query, str]:
    """Execute queries; return what is wrong with each that has no answer, no data, or no finite value in a series."""
    wrong = {}
    for query in asked:
        try:
            found = prometheus.ask(query, window)
        except NoAnswer as error:
            wrong[query] = str(error)
        else:
            if complaint := _complaint(found):
                wrong[query] = complaint
    return wrong


def _complaint(found: Sequence[Series]) -> str:
    if not found:
        return "no data"
    for series in found:
        values = [value for _, value in series.points]
        if any(math.isinf(value) for value in values):
            return f"an infinite value in {dict(series.labels)}"
        if all(math.isnan(value) for value in values):
            return f"not a number in {dict(series.labels)}"
    return ""
