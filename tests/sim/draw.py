"""Draws plans from seeds: the same seed, the same plan."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.sim.plan import Plan
from tests.sim.wire import Weather

NAMES = ("ann", "bob", "eve", "zoë")
STATES = ("archived", "deleted", "expired")
Drawn = Callable[[], list[str]]


def draw_replication(seed: int, steps: int = 60, nodes: int = 0) -> Plan:
    """Draw a walk over bare replication; `nodes` 0 leaves their number to chance, too."""
    return _Walk(seed, nodes).plan("replication", steps)


def draw_people(seed: int, steps: int = 60, nodes: int = 0) -> Plan:
    """Draw a walk over nodes that chat, with people."""
    return _Walk(seed, nodes).plan("people", steps)


class _Walk:
    def __init__(self, seed: int, nodes: int) -> None:
        self._seed = seed
        self._rng = rng = random.Random(f"plan {seed}")
        self._factor = rng.choice((3, 3, 3, 5))
        chance = self._factor + 1 + rng.randint(0, 2)
        self._count = max(nodes, self._factor) if nodes else chance
        self._nodes = [f"n{number + 1}" for number in range(self._count)]
        self._down: list[str] = []
        self._operations = 0
        self._messages = 0

    def plan(self, kind: str, steps: int) -> Plan:
        rng = self._rng
        weather = Weather(
            delay=(0.0001, rng.choice((0.001, 0.01, 0.1))),
            loss=rng.choice((0.0, 0.02, 0.15)),
            duplication=rng.choice((0.0, 0.05, 0.2)),
            late=rng.choice((0.0, 0.02, 0.1)),
            fifo=rng.random() < 0.3,
        )
        lines = [f"start {self._count}"]
        clients: list[tuple[Drawn, int]]
        if kind == "people":
            weather = Weather(weather.delay, weather.loss / 20, late=weather.late / 5, streams=True)
            # By a die of its own, so that the other draws of a seed stay what they were.
            weather.backlog = random.Random(f"backlog {self._seed}").choice((0.0, 0.0, 20.0))
            lines += [f"register {name} {self._some()}" for name in NAMES]
            clients = [(self._send, 16), (self._read, 4), (self._login, 2), (self._roam, 2), (self._register, 1)]
        else:
            clients = [(self._change, 8), (self._append, 10), (self._advance, 3)]
        lines.append(f"tick {rng.uniform(0.0, 3.0):.4f}s")
        drawn = [*clients, *self._faults()]
        actions, weights = [action for action, _ in drawn], [weight for _, weight in drawn]
        for _ in range(steps):
            (action,) = rng.choices(actions, weights)
            lines += action()
            pause = rng.choice((0.0, 0.001, 0.01, 0.1, 0.5)) * rng.random() * 2
            lines += [f"tick {pause:.4f}s"] if pause else []
        return Plan(
            kind=kind,
            seed=self._seed,
            factor=self._factor,
            slots=rng.choice((1, 2, 4)),
            skew_ms=rng.choice((0, 0, 3000)),
            weather=weather,
            steps=tuple(lines),
        )

    def _faults(self) -> list[tuple[Drawn, int]]:
        return [
            (self._crash, 3),
            (self._start, 4),
            (self._replace, 1),
            (self._divide, 2),
            (lambda: ["heal"], 3),
            (self._freeze, 1),
            (self._spoil, 2),
            (self._flip, 1),
            (self._clock, 1),
            (self._mislead, 3),
            (lambda: ["suggest right"], 2),
            (self._propose, 3),
        ]

    def _some(self) -> str:
        return self._rng.choice(self._nodes)

    def _sample(self, most: int) -> str:
        return " ".join(self._rng.sample(self._nodes, min(len(self._nodes), most)))

    def _tries(self, most: int) -> str:
        return " ".join(self._some() for _ in range(self._rng.randint(1, most)))

    # --- what clients do ---

    def _change(self) -> list[str]:
        self._operations += 1
        return [f"change {self._rng.choice(NAMES)} {self._operations} {self._tries(6)}"]

    def _append(self) -> list[str]:
        lines = []
        for _ in range(self._rng.randint(1, 3)):
            self._messages += 1
            owner = NAMES[self._messages % len(NAMES)]
            lines.append(f"append {owner} {self._messages} pending {self._tries(4)}")
        return lines

    def _advance(self) -> list[str]:
        """Archive, expire or delete a message, whether or not it has arrived."""
        if not self._messages:
            return []
        number = self._rng.randint(1, self._messages)
        return [f"append {NAMES[number % len(NAMES)]} {number} {self._rng.choice(STATES)} {self._tries(4)}"]

    # --- what people do ---

    def _send(self) -> list[str]:
        sender, to = self._rng.sample(NAMES, 2)
        if self._rng.random() < 0.05:
            to = "nobody"
        return [f"send {sender} {to} {self._rng.choice((1, 1, 2, 5))}"]

    def _read(self) -> list[str]:
        return [f"read {self._rng.choice(NAMES)} {self._some()}"]

    def _login(self) -> list[str]:
        return [f"login {self._rng.choice(NAMES)} {self._some()}"]

    def _roam(self) -> list[str]:
        return [f"roam {self._rng.choice(NAMES)} {self._some()}"]

    def _register(self) -> list[str]:
        """Let somebody ask for a name that is taken, as a rule."""
        return [f"register {self._rng.choice((*NAMES, 'dan'))} {self._some()}"]

    # --- what goes wrong ---

    def _crash(self) -> list[str]:
        up = [name for name in self._nodes if name not in self._down]
        if len(up) < 2:
            return []
        who = self._rng.choice(up)
        self._down.append(who)
        return [f"crash {who}{self._rng.choice(('', ' torn'))}"]

    def _start(self) -> list[str]:
        if not self._down:
            return []
        who = self._rng.choice(self._down)
        self._down.remove(who)
        return [f"start {who}"]

    def _replace(self) -> list[str]:
        return [f"replace {self._some()}"]

    def _divide(self) -> list[str]:
        rng, nodes = self._rng, self._nodes
        if rng.random() < 0.5:
            return [f"cut {self._some()} {self._some()}"]
        side = rng.sample(nodes, rng.randint(1, len(nodes) - 1))
        others = [name for name in nodes if name not in side]
        return [f"partition {' '.join(side)} | {' '.join(others)}"]

    def _freeze(self) -> list[str]:
        return [f"freeze {self._some()} {self._rng.random() * 3:.3f}s"]

    def _spoil(self) -> list[str]:
        what = self._rng.choice(("failing", "failing", "full", "slow"))
        if what == "failing":
            return [f"disk {self._some()} failing"]
        return [f"disk {self._some()} {what} {self._rng.random() * 2:.3f}s"]

    def _flip(self) -> list[str]:
        who = self._some()
        lines = [f"flip {who} {self._rng.choice(('record', 'register'))} {self._rng.randrange(100)}"]
        return [*lines, f"check {who}"] if self._rng.random() < 0.7 else lines

    def _clock(self) -> list[str]:
        rng = self._rng
        what = rng.choice(
            (
                f"{rng.choice((-1, 1)) * rng.choice((0.5, 5, 60)):+g}s",
                f"drift {rng.uniform(-0.02, 0.02):.4f}",
                f"rate {rng.uniform(0.98, 1.02):.4f}",
            )
        )
        return [f"clock {self._some()} {what}"]

    def _mislead(self) -> list[str]:
        """Let the ring suggest anybody, to one node or to all."""
        who = self._rng.choice(("all", self._some()))
        return [f"suggest {who} {self._rng.randrange(4)} {self._sample(self._rng.randint(1, 4))}"]

    def _propose(self) -> list[str]:
        """Let any node, member or not, propose what it likes."""
        how = self._rng.choice(("confirm", "join", "carry"))
        return [f"propose {self._some()} {self._rng.randrange(4)} {how} {self._sample(3)}"]
