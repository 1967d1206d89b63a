"""All targets."""

from __future__ import annotations

from tests.fuzz.admin_http import AdminHttp
from tests.fuzz.bodies import Bodies
from tests.fuzz.charts import ChartValues
from tests.fuzz.client_frames import ClientFrames
from tests.fuzz.engine import Target
from tests.fuzz.mailboxes import HeavyMailboxes
from tests.fuzz.multicast import MulticastPackets
from tests.fuzz.peer_frames import PeerFrames
from tests.fuzz.sessions import SessionFiles
from tests.fuzz.stores import StoreFiles

TARGETS: dict[str, type[Target]] = {
    one.name: one
    for one in (
        ClientFrames,
        PeerFrames,
        AdminHttp,
        MulticastPackets,
        Bodies,
        SessionFiles,
        StoreFiles,
        ChartValues,
        HeavyMailboxes,
    )
}
