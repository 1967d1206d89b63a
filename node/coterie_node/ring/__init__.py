"""Chord after Zave ("Reasoning about identifier spaces: how to make Chord correct", 2017; arXiv 1610.01140), sans-I/O.

Messages, answers and timers go in, effects come out; the time is a parameter and the random source is handed in. The
ring only ever *suggests* who should hold a slot. This room imports no other room of the node.
"""

from .effects import (
    Answer,
    Ask,
    Changed,
    Confirm,
    Effect,
    Hop,
    Joined,
    Moved,
    Owner,
    Persist,
    Resolve,
    Send,
    StartTimer,
    Timer,
)
from .ring import Ring
from .settings import PRESETS, RingSettings

__all__ = [
    "PRESETS",
    "Answer",
    "Ask",
    "Changed",
    "Confirm",
    "Effect",
    "Hop",
    "Joined",
    "Moved",
    "Owner",
    "Persist",
    "Resolve",
    "Ring",
    "RingSettings",
    "Send",
    "StartTimer",
    "Timer",
]
