"""The Grafana dashboard before a real Prometheus that scrapes a real ring: people chat, nodes come, move, die, go."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from monitoring.frames import Frame
from monitoring.listing import DASHBOARD, panels, queries
from monitoring.picture import draw, frames, shown
from monitoring.prometheus import Prometheus, Window, run_queries
from tests.cluster.harness import Node, Ring, post
from tests.cluster.people import Inbox, Person, Stream, person
from tests.cluster.prometheus import SCRAPE, scraping, until_seen
from tests.tools.needs import or_skip

from coterie_client.connection import Connection
from coterie_client.errors import ClientError
from coterie_client.session import login
from coterie_operator.health import Health, serve
from coterie_operator.metrics import Metrics
from coterie_protocol.admin import RingReport

ROOT = Path(__file__).parents[2]
NODES = 4
TEXT = (ROOT / DASHBOARD).read_text()
BOARD = json.loads(TEXT)


@dataclass
class Scene:
    """What happened, and who saw it."""

    ring: Ring
    prometheus: Prometheus
    report: RingReport
    window: Window
    """From the first message to the moment of the report, with nobody on the way to anywhere."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("dashboard")
    ring = Ring(folder / "ring", NODES, spare=1)
    with contextlib.ExitStack() as stack:
        stack.callback(ring.stop)
        yield asyncio.run(_play(ring, folder, stack))


async def _play(ring: Ring, folder: Path, stack: contextlib.ExitStack) -> Scene:
    """Let everything happen that the dashboard tells of, each thing until Prometheus has seen it."""
    ring.start()
    await ring.ready()
    async with _operator() as operator:
        admin = [place.admin_url.removeprefix("http://") for place in ring.places]
        with or_skip():
            jobs = {"coterie": admin, "again": admin[:2], "operator": [operator]}
            rules = [ROOT / "chart" / "rules" / "coterie.yaml", _alert(folder)]
            prometheus = stack.enter_context(scraping(folder, jobs, rules))
        begun = time.time()
        alice, bob = [await person(ring, folder, name) for name in ("alice", "bob")]
        async with _chat(alice, bob) as stream:
            await stream.steady(50, 20.0)
            await _wrong_password(ring, alice)
            await _everything_changes(ring, prometheus)
            await stream.steady(50, 20.0)
            await ring.until(lambda found: found.slots_under_replicated == 0 and len(found.members) == NODES, 60.0)
            report = await ring.ready()
            seen = time.time()
            await until_seen(
                prometheus,
                "min(timestamp(coterie_node_info))",
                lambda found: bool(found) and found[0].value > seen + SCRAPE,
            )
            end = time.time()
    return Scene(ring, prometheus, report, Window(end, end - begun, SCRAPE, SCRAPE))


def _alert(folder: Path) -> Path:
    """Return a rule that fires at once: those of the chart wait for minutes, and a ring that is well has none."""
    alert = {"alert": "CoterieOfATest", "expr": "vector(1)"}
    file = folder / "alert.yaml"
    file.write_text(json.dumps({"groups": [{"name": "test", "rules": [alert]}]}))
    return file


async def _everything_changes(ring: Ring, prometheus: Prometheus) -> None:
    """A node joins, one moves, one dies and comes back, one leaves."""
    joined = ring.add()
    joined.start()
    await _seen_to_have(prometheus, "joined")
    await ring.ready(60.0)
    taken = {member.position for member in ring.report().members}
    free = next(slot for slot in range(7, 1024, 131) if not any(abs(slot - one) < 20 for one in taken))
    assert await asyncio.to_thread(post, _url(ring.nodes[1], "move"), ring.token, {"position": free}) == 202
    await _seen_to_have(prometheus, "moved")
    await ring.ready(60.0)
    victim = ring.nodes[2]
    victim.kill()
    await _seen_to_have(prometheus, "failed")
    victim.start()
    await ring.ready(60.0)
    assert await asyncio.to_thread(post, _url(joined, "leave"), ring.token) == 202
    await joined.until(lambda found: found.state == "left", 60.0)
    assert joined.terminate() == 0
    await _seen_to_have(prometheus, "left")


def _url(node: Node, what: str) -> str:
    return f"{node.place.admin_url}/api/v1/{what}"


async def _seen_to_have(prometheus: Prometheus, change: str, seconds: float = 30.0) -> None:
    expression = f'max(coterie_ring_changes_total{{change="{change}"}})'
    await until_seen(prometheus, expression, lambda found: bool(found) and found[0].value > 0, seconds)


async def _wrong_password(ring: Ring, who: Person) -> None:
    async with Connection(ring.servers, patience=10.0) as connection:
        with pytest.raises(ClientError):
            await login(connection, who.name, "not it")


@contextlib.asynccontextmanager
async def _chat(alice: Person, bob: Person) -> AsyncIterator[Stream]:
    """Alice writes to bob, who reads."""
    async with (
        Inbox(bob),
        alice.online(patience=60.0) as client,
        Stream(client, bob.name, 0.02) as stream,
    ):
        yield stream


@contextlib.asynccontextmanager
async def _operator() -> AsyncIterator[str]:
    """An operator's own registry, served as it does; there is no Kubernetes here whose rings it could look after."""
    metrics = Metrics()
    metrics.leader.set(1)
    metrics.conditions("chat", "main", {"Available": True, "Degraded": False})
    metrics.seconds.observe(0.2)
    metrics.errors.labels("Conflict").inc()

    async def passes() -> None:
        while True:
            metrics.seconds.observe(0.2)
            metrics.errors.labels("Conflict").inc()
            await asyncio.sleep(0.5)

    async with serve(Health(time.monotonic), metrics, 0) as port:
        working = asyncio.create_task(passes())
        try:
            yield f"127.0.0.1:{port}"
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


@pytest.mark.timeout(240)
def test_every_query_answers_with_finite_data(scene: Scene) -> None:
    chosen = {**scene.prometheus.variables, "ring": scene.report.ring_uid}
    asked = [query for query in queries(BOARD) if (query.row, query.panel) != ("variables", "namespace")]
    wrong = run_queries(Prometheus(scene.prometheus.url, chosen), asked, scene.window)
    assert not wrong, "\n".join(f"{query.where}: {why}\n  {query.expression[:400]}" for query, why in wrong.items())


@pytest.mark.timeout(240)
def test_a_node_that_two_jobs_scrape_is_counted_once(scene: Scene) -> None:
    """Every job that finds the nodes scrapes them; two of these were scraped twice."""
    numbers = {
        query.panel: scene.prometheus.ask(query, scene.window)[0].value
        for query in queries(BOARD)
        if query.panel in ("Nodes ready", "Circles", "Stores that fail", "Alerts that fire")
    }
    assert numbers == {
        "Nodes ready": NODES,
        "Circles": pytest.approx(1.0),
        "Stores that fail": 0.0,
        "Alerts that fire": 1.0,
    }


@pytest.mark.timeout(240)
def test_a_query_of_a_metric_that_nobody_has_is_found_wrong(scene: Scene) -> None:
    text = TEXT.replace("coterie_messages_pending", "coterie_messages_waiting")
    wrong = run_queries(scene.prometheus, queries(json.loads(text)), scene.window)
    assert {query.panel: why for query, why in wrong.items() if query.row == "Delivery"} == {
        "Pending messages": "no data"
    }


@pytest.mark.timeout(240)
def test_the_ring_panel_has_every_node_where_the_admin_api_says(scene: Scene) -> None:
    nodes, edges = frames(BOARD, scene.prometheus, scene.window)
    members = {member.uid: member for member in scene.report.members}
    rows = {str(row["id"]): row for row in nodes.rows()}
    assert rows.keys() == members.keys()
    for uid, member in members.items():
        row = rows[uid]
        x, y = row["fixedx"], row["fixedy"]
        assert isinstance(x, float)
        assert isinstance(y, float)
        position = math.atan2(x, -y) / math.tau % 1.0
        assert abs((position - member.position_ratio + 0.5) % 1.0 - 0.5) < 0.001
        arcs = {name: value for name, value in row.items() if name.startswith("arc__")}
        assert arcs["arc__ready"] == pytest.approx(member.arc_share, rel=0.001)
        assert arcs["arc__ready_rest"] == pytest.approx(1 - member.arc_share, rel=0.001)
        assert [name for name, value in arcs.items() if value] == ["arc__ready", "arc__ready_rest"]
        assert row["mainstat"] == pytest.approx(100 * member.arc_share, rel=0.001)
        assert (row["title"], row["subtitle"], row["detail__uid"]) == (member.name, "ready", uid)
        known = [members[successor].name for successor in member.successors]
        shown = [row.get(f"detail__successor_{rank}", "") for rank in range(1, 5)]
        assert shown == [*known, *[""] * (4 - len(known))]
    assert {(row["source"], row["target"]) for row in edges.rows()} == {
        (uid, member.successors[0]) for uid, member in members.items()
    }


@pytest.mark.timeout(240)
def test_the_ring_panel_has_the_fields_that_the_node_graph_wants(scene: Scene) -> None:
    nodes, edges = frames(BOARD, scene.prometheus, scene.window)
    assert {"id", "title", "subtitle", "mainstat", "secondarystat", "fixedx", "fixedy"} <= nodes.fields.keys()
    assert not {"Time", "Value"} & {name.split(" ")[0] for name in (*nodes.fields, *edges.fields)}
    assert edges.fields.keys() == {"id", "source", "target"}
    assert _complete(nodes)


def _complete(frame: Frame) -> bool:
    """Say whether no number is missing: Grafana's arcs and places cannot do without."""
    return all(value is not None for values in frame.fields.values() for value in values)


@pytest.mark.timeout(240)
def test_the_dots_and_the_table_have_a_row_for_each_node(scene: Scene) -> None:
    found = {}
    for title in ("Places", "Nodes"):
        panel = next(panel for _, panel in panels(BOARD) if panel["title"] == title)
        (frame,) = shown(BOARD, panel, scene.prometheus, scene.window)
        assert _complete(frame)
        assert len(frame.rows()) == len(scene.report.members)
        found[title] = {row["uid"]: row for row in frame.rows()}
    for member in scene.report.members:
        dot, line = found["Places"][member.uid], found["Nodes"][member.uid]
        angle = math.tau * member.position_ratio
        assert (dot["x"], dot["y"]) == pytest.approx((math.sin(angle), math.cos(angle)), abs=0.001)
        assert (dot["name"], dot["Health"]) == (member.name, 0.0)
        assert dot["Share"] == pytest.approx(member.arc_share)
        assert (line["name"], line["Acts for"]) == (member.name, member.slots.users)
        assert line["Position"] == pytest.approx(member.position_ratio, rel=0.001)
        assert line["Share"] == pytest.approx(member.arc_share, rel=0.001)


@pytest.mark.timeout(240)
def test_the_picture_is_drawn_by_a_command(scene: Scene, tmp_path: Path) -> None:
    out = tmp_path / "ring.svg"
    command = [sys.executable, "-m", "monitoring", "picture", "--prometheus", scene.prometheus.url, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    drawn = ET.parse(out).getroot()
    titles = {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {member.name for member in scene.report.members} <= titles
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}line"))) == len(scene.report.members)


@pytest.mark.timeout(240)
async def test_a_node_that_died_is_drawn_in_red_at_its_last_place(scene: Scene) -> None:
    victim = next(node for node in scene.ring.live if node is not scene.ring.nodes[0])
    places = {member.name: member for member in scene.report.members}
    victim.kill()
    try:
        alive = f"count(count by (uid) (coterie_node_info)) == {len(places) - 1}"
        await until_seen(scene.prometheus, alive, bool)
        now = Window(time.time(), 60.0, SCRAPE, SCRAPE)
        nodes, edges = await asyncio.to_thread(frames, BOARD, scene.prometheus, now)
        (row,) = (row for row in nodes.rows() if row["title"] == victim.name)
        assert row["subtitle"] == "not scraped"
        assert row["arc__trouble"] == pytest.approx(places[victim.name].arc_share, rel=0.001)
        assert len(nodes.rows()) == len(places)
        assert {edge["source"] for edge in edges.rows()} == {
            member.uid for member in places.values() if member.name != victim.name
        }
        assert "#f2495c" in await asyncio.to_thread(draw, BOARD, scene.prometheus, now)
    finally:
        victim.start()
        await scene.ring.ready(60.0)
        # A node's first scrapes may fall before it knows its successor.
        whole = f'count(count by (instance) (coterie_node_successor_info{{rank="1"}})) == {len(places)}'
        await until_seen(scene.prometheus, whole, bool)
