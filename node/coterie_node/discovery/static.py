"""Discovery by a fixed list: `--seed HOST:PORT`, given as often as there are seeds."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.settings import Address


class StaticDiscovery:
    """The seeds that the operator named (`base.Discovery`). A name is resolved anew at each dial."""

    def __init__(self, seeds: Sequence[Address]) -> None:
        self._seeds = tuple(dict.fromkeys(seeds))

    async def start(self) -> None:
        """Nothing has to be begun."""

    async def close(self) -> None:
        """Nothing has to be ended."""

    async def addresses(self) -> Sequence[Address]:
        """Return the seeds in the order given, each once."""
        return self._seeds

    def describe(self) -> str:
        """Say where it looks."""
        if not self._seeds:
            return "no seeds: name a node of the ring with --seed HOST:PORT"
        return f"the seeds {', '.join(map(str, self._seeds))}"
