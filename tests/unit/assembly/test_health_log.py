"""What the log says of how a node is: the words of /readyz, once for each change."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from coterie_node.assembly.health_log import Herald
from coterie_node.bootstrap import identity
from coterie_node.store.store import Store
from coterie_protocol.admin import Readiness


class Clock:
    def now(self) -> float:
        return 0.0

    def wall_ms(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


async def told(*looks: Readiness) -> tuple[list[dict[str, str]], list[bool]]:
    """Return what is logged, and what is noted of having left."""
    noted: list[bool] = []
    readiness = iter(looks)

    async def note(left: bool) -> None:
        noted.append(left)

    herald = Herald(lambda: next(readiness), note, Clock(), "node-1")
    with capture_logs() as found:
        for _ in looks:
            await herald.look()
    return [dict(one) for one in found], noted


async def test_a_node_that_forms_is_not_called_ready() -> None:
    forming = Readiness(False, "forming", ["256 slots wait until the ring has 3 nodes"])
    found, _ = await told(forming, forming, Readiness(True, "ready", []), Readiness(True, "ready", []))
    assert [(one["event"], one.get("state"), one.get("why")) for one in found] == [
        ("not ready", "forming", forming.reasons[0]),
        ("ready", None, None),
    ]


async def test_a_lost_majority_is_a_warning_and_its_end_is_told() -> None:
    whole = Readiness(True, "ready", [])
    found, _ = await told(whole, Readiness(True, "ready", ["2 slots"]), Readiness(False, "ready", ["no slot"]), whole)
    assert [(one["log_level"], one["event"]) for one in found] == [
        ("info", "ready"),
        ("warning", "ready, but not for all"),
        ("warning", "not ready"),
        ("info", "ready"),
    ]


async def test_who_has_left_says_so_and_what_a_restart_would_do() -> None:
    left = Readiness(False, "left", ["it has left"])
    found, noted = await told(Readiness(False, "leaving", ["3 slots"]), left, left, Readiness(True, "ready", []))
    assert [one["event"] for one in found] == ["not ready", "has left the ring", "ready"]
    assert "started again with its data directory, it joins again" in found[1]["what"]
    assert noted == [True, False]


async def test_having_left_is_remembered_over_one_start(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    assert not await store.transact(identity.had_left)
    await store.transact(lambda tx: identity.note_left(tx, True))
    assert await store.transact(identity.had_left)
    assert not await store.transact(identity.had_left)
    await store.close()
