"""What people read: the table, the live table, what to type next; and what a wrong address answers."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from bench.ports import free_port

from coterie_client.cli import main
from coterie_client.errors import ClientError, ExitCode, Unavailable
from coterie_client.local import admin
from coterie_client.local.hints import next_steps
from coterie_client.local.live import LiveTable
from coterie_client.local.place import RingFile, RingPlace, take_lock
from coterie_client.local.process import check_ports
from coterie_client.local.show import show_ring
from coterie_client.local.table import ring_lines
from coterie_client.local.up import up
from coterie_protocol.admin import Member, RecordCounts, RingReport, SlotCounts


def member(name: str, position: int, state: str = "ready") -> Member:
    return Member(
        uid=f"{position:032x}",
        name=name,
        position=position,
        position_ratio=position / 1024,
        arc_share=0.2,
        slots=SlotCounts(205, 409, 0),
        records=RecordCounts(12, 24, 1),
        state=state,
        slots_under_replicated=0,
        peer="127.0.0.1:7401",
        client="127.0.0.1:7400",
        admin="127.0.0.1:7402",
        successors=[],
        predecessor=None,
    )


def ring(*members: Member, under: int = 0) -> RingReport:
    return RingReport("ab" * 16, 3, 1024, list(members), under, 0)


def test_the_table_is_ordered_by_position_and_aligned() -> None:
    lines = ring_lines(ring(member("node-2", 512), member("node-1", 0), member("node-10", 768, "unreachable"), under=7))
    assert [line.split()[0] for line in lines] == ["NAME", "node-1", "node-2", "node-10", "2"]
    assert "512 (0.500)" in lines[2]
    assert "20.0%" in lines[2]
    assert lines[3].split()[-1] == "unreachable"
    assert lines[-1] == "2 of 3 ready, 3 copies of each of 1024 slots, 7 under-replicated"
    column = lines[0].index("STATE")
    assert all(line[column:] in ("STATE", "ready", "unreachable") for line in lines[:-1])


def test_slots_without_a_majority_are_told_with_who_is_missing() -> None:
    whole = ring(member("node-1", 0), *(member(f"node-{n}", n, "unreachable") for n in (2, 3)))
    lines = ring_lines(msgspec.structs.replace(whole, slots_without_quorum=1))
    assert lines[-2] == "1 of 3 ready, 3 copies of each of 1024 slots, 1 slot without a majority, all replicated"
    assert lines[-1] == "1 slot has no majority, and no account there can be used; bring back node-2, node-3"
    older = ring_lines(msgspec.structs.replace(whole, slots_unowned=7))
    assert "7 slots without a majority" in older[-2]


def test_without_a_terminal_only_changes_are_printed() -> None:
    out = io.StringIO()
    table = LiveTable(out)
    for report in (ring(member("a", 0)), ring(member("a", 0)), None, None, ring(member("a", 0))):
        table.show(report)
    good = "1 of 1 ready, 3 copies of each of 1024 slots, all replicated\n"
    assert out.getvalue() == f"{good}no node answers\n{good}"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_table_is_redrawn_in_place_below_what_stays() -> None:
    out = Terminal()
    table = LiveTable(out)
    table.show(ring(member("a", 0)))
    table.show(ring(member("a", 0)))
    assert out.getvalue().count("\x1b[3F\x1b[J") == 1
    table.note("node-3 has stopped")
    table.show(ring(member("a", 0)))
    assert out.getvalue().count("\x1b[3F\x1b[J") == 2


def test_what_to_type_next_is_right_here(tmp_path: Path) -> None:
    text = next_steps(RingPlace(tmp_path), RingFile(5, 3, 7400), detached=False)
    assert "export COTERIE_HOME=/tmp/alice    export COTERIE_HOME=/tmp/bob" in text
    assert "COTERIE_SERVERS" not in text
    assert f"coterie ring --dir {tmp_path}" in text
    assert "http://127.0.0.1:7402/\n" in text
    text = next_steps(RingPlace(tmp_path), RingFile(2, 1, 9000), detached=True)
    assert "http://127.0.0.1:9002/\n" in text
    assert "export COTERIE_SERVERS=ws://127.0.0.1:9000,ws://127.0.0.1:9010\n" in text
    assert f"coterie down --dir {tmp_path}" in text
    assert "1 copy of everything" in text


@pytest.mark.parametrize("port", [7400, 9000])
def test_what_to_type_next_works_in_the_order_of_its_lines(port: int, tmp_path: Path) -> None:
    """Both people register before one of them talks to the other."""
    text = next_steps(RingPlace(tmp_path), RingFile(5, 3, port), detached=True)
    assert max(text.index("register alice"), text.index("register bob")) < text.index("coterie chat")
    assert "8 characters" in text


def test_a_port_in_use_is_named_with_the_remedy(tmp_path: Path) -> None:
    first = free_port(1)  # the neighbours must be free: the port that is named is the first that is not
    port = first + 1
    with socket.create_server(("127.0.0.1", port)):
        nodes = RingPlace(tmp_path).nodes(RingFile(1, 1, first))
        with pytest.raises(ClientError, match=rf"port {port} on 127\.0\.0\.1.* is in use; .*--port"):
            check_ports(nodes)


class Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if "ring" in self.path else 200)
        self.end_headers()
        self.wfile.write(b"<html>\xff")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def stranger() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_something_else_on_the_port_is_told_from_nobody(stranger: str) -> None:
    with pytest.raises(ClientError, match="not the admin port of a Coterie node"):
        admin.ring_report(stranger)
    with pytest.raises(ClientError, match="not the admin port of a Coterie node"):
        admin.readiness(stranger)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unavailable, match=f"no node answers at http://127.0.0.1:{port}"):
        admin.ring_report(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("127.0.0.1:7402", "it does not begin with http:// or https://"),
        ("nonsense", "it does not begin with http:// or https://"),
        ("", "it does not begin with http:// or https://"),
        ("file:///etc/passwd", "it does not begin with http:// or https://"),
        ("http://", "it names no host"),
        ("http://[::1", "brackets"),
        ("http://127.0.0.1:99999", "from 1 to 65535"),
        ("http://.example:7402", "a part of its name is empty"),
        ("http://0.0.0.0:7402", "where a node listens"),
        ("http://127.0.0.1:7402?x", "it goes on after the port"),
    ],
)
def test_an_admin_port_that_is_no_address_is_wrong_usage(
    url: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ring", "--admin", url]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert said.startswith(f"coterie: --admin: {url!r} is not an admin port's address: "), said
    assert reason in said
    assert "write it as http://127.0.0.1:7402" in said
    assert said.count("\n") == 1


def test_an_up_that_fails_for_a_port_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ClientError, match="in use"):
        up(tmp_path / "ring", 1, 1, taken.getsockname()[1], detach=True)
    assert not (tmp_path / "ring").exists()


def test_a_ring_that_runs_is_not_moved_to_another_port_in_silence(tmp_path: Path) -> None:
    place = RingPlace(tmp_path)
    place.make()
    place.save(RingFile(2, 1, 9000))
    held = take_lock(place.nodes(RingFile(2, 1, 9000))[0].lock)  # the first node runs
    assert held is not None
    try:
        with pytest.raises(ClientError, match=f"is running at port 9000; .* coterie down --dir {tmp_path}"):
            up(tmp_path, None, None, 9100, detach=True)
    finally:
        os.close(held)
    assert place.load() == RingFile(2, 1, 9000)


def test_where_there_is_no_ring_none_is_shown(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"there is no ring in {tmp_path}"):
        show_ring(None, tmp_path, json=False)
