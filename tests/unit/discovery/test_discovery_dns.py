"""Discovery by DNS, against a name server on loopback that speaks the real protocol."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import dns.asyncresolver
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest

from coterie_node.config.settings import Address
from coterie_node.discovery import dns as discovery_dns
from coterie_node.discovery.dns import PEER_PORT, DnsDiscovery

ZONE = "chat.svc.cluster.local."
SRV = f"_peer._tcp.main-peers.{ZONE}"
NODES = [f"0 50 7401 main-{number}.main-peers.{ZONE}" for number in (0, 1)]


class NameServer(asyncio.DatagramProtocol):
    """Answers from a table of records, by UDP and by TCP; what is not there does not exist."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.beside: dict[tuple[str, str], list[str]] = {}
        self.truncates = False
        self.fails = False
        self.silent = False
        self.asked: list[str] = []
        self.port = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        if not self.silent:
            self._transport.sendto(self.answer(data, cut=self.truncates), address)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            length = int.from_bytes(await reader.readexactly(2))
            answer = self.answer(await reader.readexactly(length), cut=False)
            writer.write(len(answer).to_bytes(2) + answer)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    def answer(self, data: bytes, *, cut: bool) -> bytes:
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        name, kind = query.question[0].name.to_text(), dns.rdatatype.to_text(query.question[0].rdtype)
        self.asked.append(f"{name} {kind}")
        if self.fails:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif cut:
            reply.flags |= dns.flags.TC
        elif values := self.records.get((name, kind)):
            reply.answer.append(dns.rrset.from_text_list(name, 5, "IN", kind, values))
            for (other, what), addresses in self.beside.items():
                reply.additional.append(dns.rrset.from_text_list(other, 5, "IN", what, addresses))
        elif name not in {known for known, _ in self.records}:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire(max_size=65535)


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    made = NameServer()
    loop = asyncio.get_running_loop()
    streams = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = streams.sockets[0].getsockname()[1]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setblocking(False)
    datagrams.bind(("127.0.0.1", made.port))
    transport, _ = await loop.create_datagram_endpoint(lambda: made, sock=datagrams)
    yield made
    transport.close()
    streams.close()
    await streams.wait_closed()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery_dns, "FRESH", 0.0)
    monkeypatch.setattr(discovery_dns, "LIFETIME", 2.0)


def discovery(server: NameServer, service: str = "main-peers.chat.svc", ndots: int = 5) -> DnsDiscovery:
    def resolver() -> dns.asyncresolver.Resolver:
        made = dns.asyncresolver.Resolver(configure=False)
        made.nameservers, made.port = ["127.0.0.1"], server.port
        made.search = [dns.name.from_text(name) for name in (ZONE, "svc.cluster.local", "cluster.local")]
        made.ndots = ndots
        return made

    return DnsDiscovery(service, resolver)


async def test_srv_records_and_the_addresses_beside_them(server: NameServer) -> None:
    server.records[SRV, "SRV"] = NODES
    server.beside = {(f"main-{n}.main-peers.{ZONE}", "A"): [f"10.0.0.{n}"] for n in (0, 1)}
    one = discovery(server)
    assert set(await one.addresses()) == {Address("10.0.0.0", 7401), Address("10.0.0.1", 7401)}
    assert one.describe() == "the service main-peers.chat.svc"
    assert {asked.split()[1] for asked in server.asked} == {"SRV"}


async def test_targets_without_addresses_beside_are_looked_up(server: NameServer) -> None:
    server.records[SRV, "SRV"] = [*NODES, f"0 50 7401 gone.main-peers.{ZONE}"]
    server.records[f"main-0.main-peers.{ZONE}", "A"] = ["10.0.0.7"]
    server.records[f"main-1.main-peers.{ZONE}", "AAAA"] = ["fd00::7"]
    assert set(await discovery(server).addresses()) == {Address("10.0.0.7", 7401), Address("fd00::7", 7401)}


async def test_the_port_and_the_order_are_those_of_the_records(server: NameServer) -> None:
    server.records[SRV, "SRV"] = [f"9 50 1 a.{ZONE}", f"1 10 2 b.{ZONE}", f"1 90 3 c.{ZONE}"]
    server.beside = {(f"{name}.{ZONE}", "A"): [f"10.0.0.{n}"] for n, name in enumerate("abc", 1)}
    found = await discovery(server).addresses()
    assert list(found) == [Address("10.0.0.3", 3), Address("10.0.0.2", 2), Address("10.0.0.1", 1)]


@pytest.mark.parametrize(
    "service", ["main-peers.chat.svc", "main-peers.chat.svc.cluster.local", "main-peers", SRV[11:]]
)
async def test_a_short_name_is_completed_by_the_search_list(server: NameServer, service: str) -> None:
    server.records[SRV, "SRV"] = NODES[:1]
    server.beside = {(f"main-0.main-peers.{ZONE}", "A"): ["10.0.0.1"]}
    assert await discovery(server, service).addresses() == [Address("10.0.0.1", 7401)]


async def test_many_nodes_come_by_tcp(server: NameServer) -> None:
    server.truncates = True
    server.records[SRV, "SRV"] = [f"0 50 7401 main-{n}.main-peers.{ZONE}" for n in range(100)]
    server.beside = {(f"main-{n}.main-peers.{ZONE}", "A"): [f"10.0.0.{n}"] for n in range(100)}
    assert len(await discovery(server).addresses()) == 100


async def test_without_srv_records_the_name_itself_counts(server: NameServer) -> None:
    server.records["nodes.example.", "A"] = ["10.0.0.1", "10.0.0.2"]
    server.records["nodes.example.", "AAAA"] = ["fd00::1"]
    found = await discovery(server, "nodes.example", ndots=1).addresses()
    assert set(found) == {Address(host, PEER_PORT) for host in ("10.0.0.1", "10.0.0.2", "fd00::1")}


async def test_records_that_appear_and_go_are_seen(server: NameServer) -> None:
    one = discovery(server)
    assert await one.addresses() == []
    assert one.describe() == "the service main-peers.chat.svc (DNS knows no such name)"
    server.records[SRV, "SRV"] = NODES[:1]
    server.beside = {(f"main-0.main-peers.{ZONE}", "A"): ["10.0.0.1"]}
    assert await one.addresses() == [Address("10.0.0.1", 7401)]
    assert one.describe() == "the service main-peers.chat.svc"
    server.records.clear()
    assert await one.addresses() == []


async def test_trouble_with_dns_is_told_and_is_no_error(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    one = discovery(server)
    server.fails = True
    assert await one.addresses() == []
    assert "DNS failed" in one.describe()
    server.records[f"main-peers.{ZONE}", "TXT"] = ["nothing"]
    server.fails = False
    assert await one.addresses() == []
    assert "it has no addresses just now" in one.describe()
    monkeypatch.setattr(discovery_dns, "LIFETIME", 0.2)
    server.silent = True
    assert await one.addresses() == []
    assert "DNS did not answer within 0.2 s" in one.describe()


async def test_a_machine_without_name_server_is_told() -> None:
    def resolver() -> dns.asyncresolver.Resolver:
        raise dns.resolver.NoResolverConfiguration

    one = DnsDiscovery("main-peers", resolver)
    assert await one.addresses() == []
    assert "no name server" in one.describe()


async def test_an_answer_stands_for_a_moment(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery_dns, "FRESH", 60.0)
    one = discovery(server)
    await one.addresses()
    asked = len(server.asked)
    await one.addresses()
    assert len(server.asked) == asked
