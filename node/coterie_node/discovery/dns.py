"""Discovery by DNS: the SRV records of a service whose nodes come and go, such as a headless Service of Kubernetes.

A short name is completed by the resolver's search list, as everything else on the machine does it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver
import structlog
from dns.rdtypes.IN.SRV import SRV

from ..config.settings import Address

log = structlog.get_logger()

PEER_PORT = 7401
"""Where nodes listen whose name has addresses but no SRV records."""
LIFETIME = 3.0
"""Seconds in which a look-up has to be done, whatever the resolver's own settings are."""
PATIENCE = 1.0
"""Seconds for one server's answer."""
FRESH = 0.5
"""Seconds for which an answer stands, however often it is asked for."""
EDNS_BYTES = 1232
"""What a name server may send in one datagram; more comes by TCP."""

_DNS_TCP = "_peer._tcp."


def system_resolver() -> dns.asyncresolver.Resolver:
    """Return a resolver with the machine's settings as they are just now. Raises DNSException when there are none."""
    return dns.asyncresolver.Resolver()


def search_list() -> list[str]:
    """Return the domains that complete a short name on this machine; none when nothing says so."""
    try:
        return [domain.to_text(omit_final_dot=True) for domain in system_resolver().search]
    except dns.exception.DNSException:
        return []


class DnsDiscovery:
    """Looks up `_peer._tcp.SERVICE`, and SERVICE itself where nobody has SRV records (`base.Discovery`)."""

    def __init__(self, service: str, resolver: Callable[[], dns.asyncresolver.Resolver] = system_resolver) -> None:
        self._service = service
        self._make_resolver = resolver
        self._found: list[Address] = []
        self._reason = ""
        self._at = float("-inf")

    async def start(self) -> None:
        """Nothing has to be begun."""

    async def close(self) -> None:
        """Nothing has to be ended."""

    async def addresses(self) -> Sequence[Address]:
        """Return where the service's nodes are by DNS. Trouble with DNS is no error: nothing is known just now."""
        if time.monotonic() - self._at >= FRESH:
            try:
                found, reason = await self._look_up(), ""
            except (dns.exception.DNSException, OSError) as error:
                found, reason = [], _explain(error)
            if reason and reason != self._reason:
                log.info("DNS names no nodes", service=self._service, reason=reason)
            self._found, self._reason = found, reason
            self._at = time.monotonic()
        return self._found

    def describe(self) -> str:
        """Say which service is asked for, and why DNS names none of its nodes."""
        return f"the service {self._service}" + (f" ({self._reason})" if self._reason else "")

    async def _look_up(self) -> list[Address]:
        resolver = self._make_resolver()
        resolver.lifetime, resolver.timeout = LIFETIME, PATIENCE
        resolver.use_edns(0, 0, EDNS_BYTES)
        try:
            answer = await resolver.resolve(_DNS_TCP + self._service, "SRV", search=True)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            hosts = await resolver.resolve_name(self._service, search=True)
            return [Address(host, PEER_PORT) for host in hosts.addresses()]
        records = [record for record in answer if isinstance(record, SRV)]
        records.sort(key=lambda record: (record.priority, -record.weight))
        hosts_of = await asyncio.gather(*(self._hosts(resolver, answer, record) for record in records))
        pairs = [(host, record.port) for record, hosts in zip(records, hosts_of, strict=True) for host in hosts]
        return [Address(host, port) for host, port in dict.fromkeys(pairs)]

    async def _hosts(self, resolver: dns.asyncresolver.Resolver, answer: dns.resolver.Answer, record: SRV) -> list[str]:
        """Return the addresses of an SRV record's target: those that came with it, or else its own."""
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            for beside in answer.response.additional:
                if beside.name == record.target and beside.rdtype == kind:
                    return [str(one.to_text()) for one in beside]
        try:
            return list((await resolver.resolve_name(record.target)).addresses())
        except (dns.exception.DNSException, OSError) as error:
            log.debug("a node's name has no address", name=str(record.target), reason=_explain(error))
            return []


def _explain(error: Exception) -> str:
    if isinstance(error, dns.resolver.NXDOMAIN):
        return "DNS knows no such name"
    if isinstance(error, dns.resolver.NoAnswer):
        return "it has no addresses just now"
    if isinstance(error, dns.resolver.LifetimeTimeout):
        return f"DNS did not answer within {LIFETIME:g} s"
    if isinstance(error, dns.resolver.NoResolverConfiguration):
        return "this machine has no name server: see /etc/resolv.conf"
    return f"DNS failed: {error}"
