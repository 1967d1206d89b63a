"""What the nodes of a real ring tell Prometheus, under load and when one of them dies."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.cluster.conftest import MakeRing
from tests.cluster.people import CHEAP, Inbox, Stream, person, two_people
from tests.cluster.scraping import Scrape, scrapes, total, until

from coterie_client.connection import Connection
from coterie_client.errors import ClientError
from coterie_client.session import login
from coterie_node.api.metrics.family import Kind
from coterie_node.api.metrics.table import FAMILIES


async def test_a_ring_under_load_is_seen_in_its_metrics(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(3)
    alice, bob = await two_people(ring, tmp_path)
    before = await scrapes(ring.nodes)
    async with Inbox(bob) as inbox, alice.online() as sender:
        async with Stream(sender, "bob") as stream:
            await stream.steady(100, 30.0)
        await inbox.reach(len(stream.texts), 30.0)
        sent = len(stream.texts)
        after = await until(ring.nodes, lambda found: _delivered(found) >= sent and _round_trips(found) == 3 * 2)
        assert total(after, "coterie_sessions") == 2
    assert total(before, "coterie_messages_total") == 0
    for event in ("accepted", "stored", "delivered"):
        assert total(after, "coterie_messages_total", event=event) == sent
    assert total(after, "coterie_delivery_seconds_count") == sent
    assert 0 < total(after, "coterie_delivery_seconds_sum") / sent < 5
    assert total(after, "coterie_commit_seconds_count") > total(before, "coterie_commit_seconds_count")
    assert total(after, "coterie_commit_batch_records_sum") >= 2 * 3 * sent  # Hers and his, on three disks each.
    assert total(after, "coterie_logins_total", result="registered") == 2
    assert total(after, "coterie_records", role="users", kind="account") == 2
    assert total(after, "coterie_records", role="backups", kind="account") == 4
    assert total(after, "coterie_arc_share_ratio") == pytest.approx(1)
    assert total(after, "coterie_slots", role="users") == 1024
    assert total(after, "coterie_slots", role="backups") == 2 * 1024
    assert total(after, "coterie_slots_under_replicated") == total(after, "coterie_slots_without_quorum") == 0
    names = {node.name for node in ring.nodes}
    for node, one in zip(ring.nodes, after, strict=True):
        assert one.sum("coterie_ring_members") == 3
        assert one.sum("coterie_node_state", state="ready") == one.sum("coterie_node_state") == 1
        assert one.values("coterie_node_info", "name") == {node.name}
        assert one.values("coterie_peer_rtt_seconds", "peer") == names - {node.name}
        assert one.sum("coterie_store_free_bytes") > 0
        assert one.sum("process_cpu_seconds_total") > 0
        for family in FAMILIES:
            name = f"{family.name}_count" if family.kind is Kind.HISTOGRAM else family.name
            assert name in one.samples, f"{node.name} says nothing of {family.name}"
    _lint(after[0].text)
    # What users do, right or wrong, makes no series.
    for number in range(3):
        await person(ring, tmp_path, f"guest{number}")
        async with Connection(alice.settings.servers, patience=10.0) as connection:
            with pytest.raises(ClientError):
                await login(connection, f"guest{number}", "not the password", minimum=CHEAP)
            with pytest.raises(ClientError):
                await login(connection, f"nobody{number}", "not the password", minimum=CHEAP)
    later = await until(ring.nodes, lambda found: total(found, "coterie_logins_total", result="refused") == 3)
    assert [one.series for one in later] == [one.series for one in after]


async def test_a_death_is_seen_in_the_metrics_of_the_others(make_ring: MakeRing) -> None:
    ring = make_ring(4, COTERIE_NODE_REPLACE_AFTER="3")
    ring.start()
    await ring.ready()
    joined = await scrapes(ring.nodes)
    assert total(joined, "coterie_ring_changes_total", change="failed") == 0
    ring.nodes[3].kill()
    others = ring.nodes[:3]
    found = await until(others, lambda found: all(one.sum("coterie_ring_members") == 3 for one in found))
    await until(others, lambda found: total(found, "coterie_ring_changes_total", change="failed") == 3)
    assert total(found, "coterie_peer_failures_total") >= 3
    found = await until(others, lambda found: total(found, "coterie_arc_share_ratio") == pytest.approx(1))
    assert total(found, "coterie_slots_under_replicated") > 0
    dead = ring.nodes[3].name
    assert all(dead not in one.values("coterie_peer_rtt_seconds", "peer") for one in found)
    ring.nodes[3].start()
    await ring.ready()
    await until(ring.nodes, lambda found: total(found, "coterie_slots_under_replicated") == 0)
    found = await until(
        others, lambda found: all(one.sum("coterie_ring_changes_total", change="joined") >= 1 for one in found)
    )
    assert total(found, "coterie_ring_changes_total", change="failed") == 3
    # A node that comes back with an empty disk is another one: it takes the place of the first in every series.
    found = await until(ring.nodes, lambda found: _round_trips(found) == 4 * 3)
    ring.nodes[3].kill()
    ring.nodes[3].wipe()
    ring.nodes[3].start()
    await ring.ready(60.0)
    later = await until(ring.nodes, lambda found: _round_trips(found) == 4 * 3)
    for before, after in zip(found, later, strict=True):
        assert len(after.series) == len(before.series)
        assert after.values("coterie_peer_rtt_seconds", "peer") == before.values("coterie_peer_rtt_seconds", "peer")


def _delivered(found: list[Scrape]) -> float:
    return total(found, "coterie_messages_total", event="delivered")


def _round_trips(found: list[Scrape]) -> int:
    return sum(len(one.values("coterie_peer_rtt_seconds", "peer")) for one in found)


def _lint(text: str) -> None:
    """Have Prometheus' own tool look at the names and texts, where it is installed (Debian: prometheus)."""
    promtool = shutil.which("promtool")
    if promtool is None:
        return
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr.strip(), done.stderr
