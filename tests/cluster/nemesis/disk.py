"""The nemesis' hand in a node's disk and clock: shim.c, compiled on the spot, and what is done with its notes.

A power cut is a kill -9 and then `Disk.lose_unsynced`: what no fsync had covered is taken back, all of it or back to
some write in between, which may be torn. What fsync covered stays. `lies` shows that this has teeth.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
_MAGIC = 0x75646F31
_RECORD = struct.Struct("=IIqqqq")
_PAGE = 4096


def why_not() -> str:
    """Return why there can be no shim here; empty when it can be."""
    if not sys.platform.startswith("linux"):
        return "LD_PRELOAD and prctl are Linux's"
    return "" if shutil.which("cc") else "the shim that holds disk and clock needs a C compiler (cc)"


def build(directory: Path) -> Path:
    """Compile the shim; return the library."""
    library = directory / "shim.so"
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return library


@dataclass(frozen=True)
class _Change:
    at: int
    kept: bytes
    size: int
    written: int


class Disk:
    """What one node's processes see of disk and clock, one after the other."""

    def __init__(self, library: Path, data: Path, source: str) -> None:
        """`data` is the node's data directory; logs go beside it, onto the same file system.

        `source` is the address from which its processes dial others.
        """
        self._source = source
        self._library = library
        self._data = data
        self._undo = data.with_suffix(".undo")
        self._control = data.with_suffix(".control")
        self._control.write_bytes(bytes(_PAGE))
        with open(self._control, "r+b") as file:
            self._page = mmap.mmap(file.fileno(), _PAGE)

    def environment(self) -> dict[str, str]:
        """Return what a process needs to get this disk and clock; to be asked before each start."""
        self._undo.mkdir(exist_ok=True)
        if not self._names():
            for saved in self._undo.glob("saved-*"):
                saved.unlink()
        return {
            "LD_PRELOAD": str(self._library),
            "COTERIE_SHIM_DATA": str(self._data),
            "COTERIE_SHIM_UNDO": str(self._undo),
            "COTERIE_SHIM_CONTROL": str(self._control),
            "COTERIE_SHIM_PARENT": str(os.getpid()),
            "COTERIE_SHIM_SOURCE": self._source,
        }

    # --- While the node runs ---

    def _set(self, place: int, value: int) -> None:
        struct.pack_into("=q", self._page, 8 * place, value)

    def clock(self, seconds: float) -> None:
        """Put the wall clock wrong by so many seconds; 0 puts it right."""
        self._set(0, round(seconds * 1e9))

    def slow(self, seconds: float) -> None:
        """Let each fsync take so much longer."""
        self._set(1, round(seconds * 1e6))

    def full(self, yes: bool) -> None:
        """Let no file grow."""
        self._set(2, int(yes))

    def lies(self, yes: bool) -> None:
        """Let fsync return without doing anything."""
        self._set(3, int(yes))

    # --- While it does not ---

    def unsynced(self) -> int:
        """Return how many bytes no fsync has covered."""
        return sum(change.written for log in self._undo.glob("*.undo") for change in _changes(log))

    def lose_unsynced(self, dice: random.Random | None) -> int:
        """Take back what a power cut may take, as the dice decide, or (None) all of it; return how many bytes."""
        for line in reversed(self._names()):
            kind, one, other = line.split("\t")
            self._take_back_name(kind, Path(one), Path(other))
        lost = 0
        for log in self._undo.glob("*.undo"):
            path = Path(log.with_suffix(".path").read_text())
            if path.exists() and path.stat().st_ino == int(log.stem):
                lost += _take_back(path, _changes(log), dice)
        self.forget()
        for shared in self._data.glob("*-shm"):
            shared.unlink()
        return lost

    def forget(self) -> None:
        """Forget what was not synced: it is safe now, or gone with the directory."""
        shutil.rmtree(self._undo, ignore_errors=True)

    def _names(self) -> list[str]:
        try:
            return (self._undo / "names").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _take_back_name(self, kind: str, one: Path, other: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            if kind == "C":
                one.unlink()
            elif kind == "U" or kind == "R":
                other.replace(one)


def _changes(log: Path) -> list[_Change]:
    """Read an undo log; a last entry that is not whole belongs to a write that never happened."""
    data = log.read_bytes()
    changes: list[_Change] = []
    at = 0
    while at + _RECORD.size <= len(data):
        magic, _, place, kept, size, written = _RECORD.unpack_from(data, at)
        if magic != _MAGIC:
            raise ValueError(f"{log} is not an undo log at byte {at}: a fault of the shim")
        at += _RECORD.size
        if at + kept > len(data):
            break
        changes.append(_Change(place, data[at : at + kept], size, written))
        at += kept
    return changes


def _take_back(path: Path, changes: list[_Change], dice: random.Random | None) -> int:
    """Take back the newest changes of a file: all, or some; the oldest of those taken back may be torn instead."""
    first = 0 if dice is None or dice.random() < 0.5 else dice.randint(0, len(changes))
    lost = 0
    with open(path, "r+b") as file:
        for index in range(len(changes) - 1, first - 1, -1):
            change = changes[index]
            torn = dice is not None and index == first > 0 and dice.random() < 0.5
            stays = dice.randint(0, change.written) if dice is not None and torn else 0
            file.seek(change.at + stays)
            file.write(change.kept[stays:])
            file.truncate(max(change.size, change.at + stays) if stays else change.size)
            lost += change.written - stays
        file.flush()
        os.fsync(file.fileno())
    return lost
