"""The ring's secret: read anew when its file changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from coterie_node.config.settings import ConfigError
from coterie_node.discovery.choose import watched_secret


def test_a_secret_that_was_made_anew_counts_at_once(tmp_path: Path) -> None:
    """Nodes that were restarted since would not hear those that were not."""
    file = tmp_path / "secret"
    file.write_text("first-secret-of-the-ring\n")
    secret = watched_secret(file)
    assert secret() == b"first-secret-of-the-ring"
    file.write_text("other-secret-of-the-ring-is-longer")
    assert secret() == b"other-secret-of-the-ring-is-longer"
    file.write_text("short")
    assert secret() == b"other-secret-of-the-ring-is-longer"
    file.unlink()
    assert secret() == b"other-secret-of-the-ring-is-longer"


def test_a_secret_must_be_there_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="check --secret-file"):
        watched_secret(tmp_path / "none")
