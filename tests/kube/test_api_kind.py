"""`make kind` as far as it goes without Docker: kind takes the configuration, and what is missing is said in a line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.kube.lab.handle import Kube

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "kind-config.yaml"


def create(kube: Kube, config: Path) -> str:
    """Let kind read a configuration; without Docker it gets no further. Return what it says."""
    kind, *arguments = kube.command("kind", "create", "cluster", "--config", str(config))
    environment = {"PATH": str(Path(kind).parent), "KIND_EXPERIMENTAL_PROVIDER": "docker"}
    done = subprocess.run([kind, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode
    return done.stderr


def test_kind_takes_the_configuration(control_plane: Kube, tmp_path: Path) -> None:
    assert "docker" in create(control_plane, CONFIG)
    odd = tmp_path / "odd.yaml"
    odd.write_text(CONFIG.read_text().replace("extraPortMappings", "extraPortMapings"))
    assert "extraPortMapings" in create(control_plane, odd)


def test_clients_come_in_where_the_script_says() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    assert [node["role"] for node in config["nodes"]] == ["control-plane", "worker", "worker", "worker"]
    (mapping,) = config["nodes"][0]["extraPortMappings"]
    assert mapping["listenAddress"] == "127.0.0.1"
    script = (ROOT / "scripts" / "kind").read_text()
    assert f"ring.service.nodePort={mapping['containerPort']}" in script
    assert f"COTERIE_SERVERS=ws://127.0.0.1:{mapping['hostPort']}" in script


@pytest.mark.parametrize(
    ("present", "said"),
    [
        ((), "kind is missing"),
        (("kind",), "docker is missing"),
        (("kind", "docker"), "engine does not answer"),
    ],
)
def test_what_is_missing_is_said_in_a_line(tmp_path: Path, present: tuple[str, ...], said: str) -> None:
    for name in ("sh", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    for name in present:
        # As good as the real ones where they can do nothing.
        (tmp_path / name).symlink_to(str(shutil.which("false")))
    done = subprocess.run(
        [ROOT / "scripts" / "kind"], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
