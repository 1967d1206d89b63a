"""What is installed has the files that are not Python: the page that nodes serve, the schema of their stores."""

from __future__ import annotations

import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[3]


def test_the_wheel_has_the_ring_page_and_the_schema(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    held = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("api/page", "store/schema"):
        source = ROOT / "node" / "coterie_node" / folder
        wanted = {f"coterie_node/{folder}/{path.name}" for path in source.iterdir() if path.is_file()}
        assert len(wanted) > 1
        assert wanted <= held
