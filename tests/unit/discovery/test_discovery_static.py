from __future__ import annotations

from coterie_node.config.settings import Address
from coterie_node.discovery.base import Discovery
from coterie_node.discovery.static import StaticDiscovery


async def test_seeds_come_in_their_order_and_once() -> None:
    one, two = Address("10.0.0.1", 7401), Address("::1", 7401)
    discovery: Discovery = StaticDiscovery([one, two, one])
    assert await discovery.addresses() == (one, two)
    assert discovery.describe() == "the seeds 10.0.0.1:7401, [::1]:7401"


async def test_without_seeds_it_says_what_to_do() -> None:
    discovery = StaticDiscovery([])
    assert await discovery.addresses() == ()
    assert "--seed HOST:PORT" in discovery.describe()
