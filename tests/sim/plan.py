"""What a simulation is to do, as text: options, then one step a line, in the words of `stage`.

A walk is a plan that is drawn from a seed before it begins, so that the same plan takes the same steps, can be written
to a file, cut down, and replayed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.sim.wire import Weather


@dataclass(frozen=True)
class Plan:
    """A world, what happens in it, and in which order."""

    kind: str = "people"
    """`replication`: bare rooms of replication, and accounts that are lists of words. `people`: nodes that chat."""
    seed: int = 0
    """Decides whatever the steps leave open: delays, losses, jitter."""
    factor: int = 3
    slots: int = 1
    skew_ms: int = 0
    weather: Weather = field(default_factory=Weather)
    steps: tuple[str, ...] = ()

    def text(self) -> str:
        """Write it."""
        lines = [f"kind {self.kind}", f"seed {self.seed}", f"factor {self.factor}", f"slots {self.slots}"]
        if self.skew_ms:
            lines.append(f"skew {self.skew_ms}")
        if self.weather != Weather():
            lines.append(f"weather {told(self.weather)}")
        return "\n".join([*lines, *self.steps]) + "\n"

    @classmethod
    def read(cls, text: str) -> Plan:
        """Read what `text` wrote. Raises ValueError."""
        plan = cls()
        steps: list[str] = []
        for line in text.splitlines():
            words = line.split("#")[0].split()
            if not words:
                continue
            if not steps and words[0] in OPTIONS:
                plan = plan.with_option(words)
            else:
                steps.append(" ".join(words))
        return replace(plan, steps=tuple(steps))

    def with_option(self, words: list[str]) -> Plan:
        """Return the plan with an option as a line gives it. Raises ValueError."""
        match words:
            case ["kind", "replication" | "people" as kind]:
                return replace(self, kind=kind)
            case ["seed", seed]:
                return replace(self, seed=int(seed))
            case ["factor", factor]:
                return replace(self, factor=int(factor))
            case ["slots", slots]:
                return replace(self, slots=int(slots))
            case ["skew", skew]:
                return replace(self, skew_ms=int(skew))
            case ["weather", *rest]:
                return replace(self, weather=weather(rest))
        raise ValueError(f"no such option: {' '.join(words)}")


NUMBERS = ("loss", "duplication", "late", "backlog")
"""What of a weather is one number, 0 if the weather is fair."""
OPTIONS = ("kind", "seed", "factor", "slots", "skew", "weather")


def told(weather: Weather) -> str:
    """Write a weather."""
    words = [f"delay {weather.delay[1]:g}"]
    words += [f"{name} {value:g}" for name in NUMBERS if (value := getattr(weather, name))]
    return " ".join([*words, *([] if weather.fifo else ["reordered"]), *(["streams"] if weather.streams else [])])


def weather(words: list[str]) -> Weather:
    """Read a weather: `fair`, or such as `delay 0.01 loss 0.02 late 0.02 backlog 20 reordered streams`."""
    result = Weather()
    rest = iter(words)
    for word in rest:
        if word == "delay":
            result.delay = (0.0001, float(next(rest)))
        elif word in NUMBERS:
            setattr(result, word, float(next(rest)))
        elif word == "reordered":
            result.fifo = False
        elif word == "streams":
            result.streams = True
        elif word != "fair":
            raise ValueError(f"no such weather: {word}")
    return result


def seconds(word: str) -> float:
    """Read a time such as `2s`."""
    return float(word.removesuffix("s"))
