"""Stories about a ring: text files with one command a line, and drawings to compare.

# a comment
slots 64              the ring's size; `seed 7` draws other delays
found                 a node founds the ring
join 4                so many new nodes start at the same moment (`join 1 beside n2`: on its side of a split)
tick 2s               time passes
whole 3s              all nodes must become one perfect ring within that time
crash n2, start n2    a process dies, or starts on what its disk holds
restart               all processes die and start again at the same moment
split n1 n2 | n3      the network falls apart; `heal` mends it
move n2 40            a node takes another position; a refusal is compared as `refused: …`
leave n3, cancel n3   a node wants to leave, or takes that back
ring                  what follows, up to an empty line, is the drawing: name, position, predecessor, successors
"""

from __future__ import annotations

from pathlib import Path

from tests.sim.ring.simulator import Simulator

from coterie_node.ring import PRESETS


class Story:
    """Plays one file. `told` is the file with each drawing as it really is."""

    def __init__(self, path: Path) -> None:
        self._lines = path.read_text().splitlines()
        self._options = {"slots": 64, "seed": 1}
        self._simulator: Simulator | None = None
        self.told: list[str] = []

    @property
    def simulator(self) -> Simulator:
        """Return the simulation, begun with the options so far."""
        if self._simulator is None:
            self._simulator = Simulator(self._options["seed"], PRESETS["local"], self._options["slots"])
        return self._simulator

    def play(self) -> tuple[str, str]:
        """Play it; return what is written and what came out."""
        lines = iter(self._lines)
        for line in lines:
            self.told.append(line)
            words = line.split("#")[0].split()
            if not words:
                continue
            if words[0] == "ring":
                self.told += self.simulator.drawing().splitlines()
                for expected in lines:
                    if not expected.strip():
                        self.told.append(expected)
                        break
            elif words[0] == "refused:":
                self.told.pop()
            else:
                self._command(words[0], words[1:])
        return "\n".join(self._lines), "\n".join(self.told)

    def _command(self, verb: str, words: list[str]) -> None:
        if verb in self._options:
            self._options[verb] = int(words[0])
            return
        world = self.simulator
        if verb == "found":
            world.add(found=True)
        elif verb == "join":
            beside = world.nodes[words[2]] if words[1:2] == ["beside"] else None
            for _ in range(int(words[0])):
                world.add(beside=beside)
        elif verb == "tick":
            world.run(seconds(words[0]))
        elif verb == "whole":
            world.run_until(world.ideal, seconds(words[0]))
            world.settle()
        elif verb == "crash":
            world.crash(world.nodes[words[0]])
        elif verb == "start":
            world.start(world.nodes[words[0]])
        elif verb == "restart":
            world.unsettle()
            for node in world.live():
                world.crash(node)
            for node in world.nodes.values():
                world.start(node)
        elif verb == "split":
            world.unsettle()
            sides = [side.split() for side in " ".join(words).split("|")]
            world.partition(*([world.nodes[name] for name in side] for side in sides))
        elif verb == "heal":
            world.partition()
        elif verb == "move":
            refusal = world.move(world.nodes[words[0]], int(words[1]))
            if refusal:
                self.told.append(f"refused: {refusal.split(' (')[0]}")
        elif verb in ("leave", "cancel"):
            world.leave(world.nodes[words[0]], verb == "leave")
        else:
            raise ValueError(f"no such command: {verb}")


def seconds(word: str) -> float:
    """Read a time such as `2s`."""
    return float(word.removesuffix("s"))
