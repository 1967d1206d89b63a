"""What `python -m tests.tools prepare` makes sure of. Add here what a test needs of Debian or of npm."""

from __future__ import annotations

from collections.abc import Callable

from tests.browser.needs import CHROMIUM, axe

from .debian import Debian, install

PROMETHEUS = Debian("prometheus", programs=("prometheus", "promtool"), services=("prometheus",))

DEBIAN = (PROMETHEUS, CHROMIUM)

EVERYTHING: tuple[Callable[[], object], ...] = (lambda: install(DEBIAN), axe)
"""Each installs what is missing and raises CannotRun when it cannot; one that fails keeps no other from its turn."""
