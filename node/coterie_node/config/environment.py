"""Variables that look like settings and are none: a misspelt one would otherwise do nothing, and nobody would know.

They are told, never refused: a later release may have more settings, and Kubernetes puts variables of its own into each
container, COTERIE_NODE_PORT=tcp://10.0.0.1:7400 for a Service that is called coterie-node.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from coterie_protocol.words import listed

SERVICE_LINK = re.compile(
    r"(?:.+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
"""What follows the prefix in the variables of a Service's links, but for the plain PORT, which has a URL."""
SERVICE_URL = re.compile(r"(?:tcp|udp|sctp)://")
ALIKE = 0.6
"""How alike a name must be to be offered, as difflib measures it."""
MOST = 20
"""Variables that are told."""


def misspelt(environment: Mapping[str, str], prefix: str, known: Iterable[str]) -> list[str]:
    """Return a sentence for each variable with the prefix that is none of those known, which have the prefix too."""
    names = sorted(known)
    found = []
    for name in sorted(environment):
        if not name.startswith(prefix) or name in names:
            continue
        rest = name[len(prefix) :]
        url = rest.endswith("PORT") and SERVICE_URL.match(environment[name])
        if url or SERVICE_LINK.fullmatch(rest):
            continue
        near = difflib.get_close_matches(rest, [one[len(prefix) :] for one in names], 1, ALIKE)
        advice = f"did you mean {prefix}{near[0]}?" if near else "coterie-node run --help names them all"
        found.append(f"{name!r} is no setting of this release and does nothing; {advice}")
    if len(found) > MOST:
        found[MOST:] = [f"so are {listed([one.partition(' ')[0] for one in found[MOST:]])}"]
    return found
