"""Who acts: one at any moment, whatever the API does, and the next one soon."""

from __future__ import annotations

import asyncio
import copy
import heapq
from collections.abc import AsyncIterator
from typing import Any

import pytest

from coterie_operator.kube import LEASE, Conflict, Kind, NotLeader, Unreachable
from coterie_operator.lease import Elector

DURATION = 6.0


class Time:
    """A clock that moves when the test says so, and wakes who sleeps by it."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._count = 0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._count += 1
        heapq.heappush(self._sleepers, (self.now + seconds, self._count, woken))
        await woken.wait()

    async def pass_by(self, seconds: float, step: float = 0.1) -> None:
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now += step
            while self._sleepers and self._sleepers[0][0] <= self.now:
                heapq.heappop(self._sleepers)[2].set()
            await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Api:
    """Leases with resource versions, as the API server keeps them, and a cable for each contender."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self._version = 0

    def cable(self) -> Cable:
        return Cable(self)

    def store(self, lease: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        self.lease = copy.deepcopy(lease)
        self.lease["metadata"]["resourceVersion"] = str(self._version)
        return copy.deepcopy(self.lease)


class Cable:
    """One contender's way to the API; it can be cut."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.cut = False

    async def find(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        self._check()
        assert (kind, namespace, name) == (LEASE, "ns", "operators")
        return copy.deepcopy(self._api.lease)

    async def create(self, kind: Kind, manifest: dict[str, Any]) -> dict[str, Any]:
        self._check()
        if self._api.lease is not None:
            raise Conflict("create", "it exists")
        return self._api.store(manifest)

    async def replace(self, kind: Kind, manifest: dict[str, Any]) -> dict[str, Any]:
        self._check()
        live = self._api.lease
        if live is None or live["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
            raise Conflict("update", "it has changed")
        return self._api.store(manifest)

    def _check(self) -> None:
        if self.cut:
            raise Unreachable("get leases", "no answer")


class Contender:
    def __init__(self, api: Api, time: Time, name: str, **options: Any) -> None:
        self.cable = api.cable()
        self.elector = Elector(self.cable, "ns", "operators", name, DURATION, clock=time, sleep=time.sleep, **options)
        self.task = asyncio.create_task(self._run())
        self.lost = False

    @property
    def held(self) -> bool:
        return self.elector.held

    async def _run(self) -> None:
        await self.elector.acquire()
        await self.elector.hold()
        self.lost = True

    async def die(self) -> None:
        """End as by kill -9: nothing is given back."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def contenders(api: Api, time: Time) -> AsyncIterator[tuple[Contender, Contender]]:
    first = Contender(api, time, "first")
    await settle()
    second = Contender(api, time, "second")
    await settle()
    yield first, second
    await first.die()
    await second.die()


async def test_one_holds_it_and_keeps_it(contenders: tuple[Contender, Contender], time: Time) -> None:
    first, second = contenders
    for _ in range(60):
        await time.pass_by(0.5)
        assert first.held
        assert not second.held


async def test_after_a_sudden_death_the_other_takes_over(contenders: tuple[Contender, Contender], time: Time) -> None:
    first, second = contenders
    await time.pass_by(20)
    await first.die()
    died = time.now
    while not second.held:
        await time.pass_by(0.1)
    assert not first.held
    assert time.now - died < 1.5 * DURATION


async def test_a_holder_that_is_cut_off_stops_before_another_begins(
    contenders: tuple[Contender, Contender], time: Time
) -> None:
    first, second = contenders
    await time.pass_by(20)
    first.cable.cut = True
    stopped = began = None
    for _ in range(200):
        await time.pass_by(0.1)
        assert not (first.held and second.held)
        stopped = time.now if stopped is None and not first.held else stopped
        began = time.now if began is None and second.held else began
    assert stopped is not None
    assert began is not None
    assert began - stopped >= 1.0
    assert first.lost
    with pytest.raises(NotLeader):
        first.elector.check()


async def test_a_short_cut_costs_nothing(contenders: tuple[Contender, Contender], time: Time) -> None:
    first, _ = contenders
    await time.pass_by(20)
    first.cable.cut = True
    await time.pass_by(2.0)
    first.cable.cut = False
    await time.pass_by(20)
    assert first.held
    assert not first.lost


async def test_a_process_that_was_stopped_does_not_act_when_it_goes_on(
    contenders: tuple[Contender, Contender], time: Time
) -> None:
    first, _ = contenders
    await time.pass_by(4)
    time.now += 60  # nothing of this process ran meanwhile
    assert not first.held


async def test_a_released_lease_is_taken_at_the_next_look(contenders: tuple[Contender, Contender], time: Time) -> None:
    first, second = contenders
    await time.pass_by(20)
    await first.die()
    await first.elector.release()
    assert not first.held
    await time.pass_by(DURATION / 3 + 0.1)
    assert second.held


async def test_whose_clock_is_wrong_does_not_matter(api: Api, time: Time) -> None:
    spec = {"holderIdentity": "gone", "leaseDurationSeconds": 6, "renewTime": "2099-01-01T00:00:00.000000Z"}
    api.store({"metadata": {"name": "operators", "namespace": "ns"}, "spec": spec})
    only = Contender(api, time, "only")
    await settle()
    await time.pass_by(DURATION - 0.5)
    early = only.held
    await time.pass_by(DURATION / 3 + 0.5)
    assert (early, only.held) == (False, True)
    assert api.lease is not None
    assert api.lease["spec"]["leaseTransitions"] == 1
    await only.die()


async def test_a_holder_whose_lease_was_given_to_another_stops_at_once(api: Api, time: Time) -> None:
    only = Contender(api, time, "only")
    await settle()
    assert only.held
    assert api.lease is not None
    taken = copy.deepcopy(api.lease)
    taken["spec"]["holderIdentity"] = "another"
    api.store(taken)
    await time.pass_by(DURATION / 3 + 0.1)
    assert only.lost
    assert not only.held


async def test_a_deleted_lease_is_made_again(api: Api, time: Time) -> None:
    only = Contender(api, time, "only")
    await settle()
    api.lease = None
    await time.pass_by(20)
    assert only.held
    await only.die()


async def test_a_change_by_a_bystander_is_no_loss(api: Api, time: Time) -> None:
    only = Contender(api, time, "only")
    await settle()
    for _ in range(10):
        assert api.lease is not None
        api.store({**api.lease, "metadata": {**api.lease["metadata"], "annotations": {"seen": str(time.now)}}})
        await time.pass_by(2.3)
    assert only.held
    await only.die()


async def test_the_lease_belongs_to_the_holders_pod(api: Api, time: Time) -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "operator-1", "uid": "u-1"}
    only = Contender(api, time, "only", owner=owner)
    await settle()
    assert api.lease is not None
    assert api.lease["metadata"]["ownerReferences"] == [owner]
    await only.die()


async def test_what_keeps_the_turn_away_can_be_read(api: Api, time: Time) -> None:
    only = Contender(api, time, "only")
    only.cable.cut = True
    await settle()
    troubles = [only.elector.trouble]
    only.cable.cut = False
    await time.pass_by(3)
    troubles.append(only.elector.trouble)
    assert only.held
    assert troubles == ["cannot get leases: no answer", ""]
    await only.die()
