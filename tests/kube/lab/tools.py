"""The programs of a real Kubernetes, built from Go modules whose versions and checksums stand in `../tools`.

Some eight minutes cold on two cores; built programs are kept in the user's cache, by what their go.mod and go.sum say.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.tools.needs import CannotRun, cache, say

TOOLS = Path(__file__).parent.parent / "tools"
CONTROL_PLANE = ("kubernetes", "etcd", "helm", "kind")
NODES = ("coredns", "containerd", "runc", "prometheus")

_RENAMED = {"server": "etcd"}
"""Programs whose package is not called as people call them."""


def programs(parts: Sequence[str]) -> Path:
    """Build what is missing of these parts; return the folder that holds all programs. Raises CannotRun."""
    folder = cache("kube") / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [part for part in parts if not _built(part, folder)]
    if missing:
        go = _go()
        for at, part in enumerate(missing, 1):
            say(f"building {part} [{at}/{len(missing)}]: minutes the first time, kept in {folder} afterwards")
            started = time.monotonic()
            _build(go, part, folder)
            say(f"  {part}: {time.monotonic() - started:.0f} s")
    return folder


def _built(part: str, folder: Path) -> bool:
    stamp = folder / f".{part}"
    return stamp.exists() and stamp.read_text() == _recipe(part)


def _recipe(part: str) -> str:
    """Return what decides about a part's programs: the versions, the checksums and how this file builds them."""
    digest = hashlib.sha256()
    for file in (TOOLS / part / "go.mod", TOOLS / part / "go.sum", Path(__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _go() -> str:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        raise CannotRun("Go is missing, of which the Kubernetes tests are built: install it (https://go.dev/dl)")
    return go


def _build(go: str, part: str, folder: Path) -> None:
    module = TOOLS / part
    environment: Mapping[str, str] = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    extra: list[str] = []
    linked = "-s -w"
    if part == "runc":
        environment = {**environment, "CGO_ENABLED": "1"}
        extra = ["-tags", "seccomp"]
    if part == "prometheus":
        # Debian's cannot discover pods. Of two dozen ways to discover targets this one has that; it saves minutes.
        extra = ["-tags", "remove_all_sd,enable_kubernetes_sd"]
    if part == "kubernetes":
        version = _version(module, "k8s.io/kubernetes")
        major, minor, _ = version.removeprefix("v").split(".", 2)
        stamp = "k8s.io/component-base/version"
        linked += f" -X {stamp}.gitVersion={version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
    out = folder / f".{part}-building"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    packages = _tools(module)
    command = [go, "build", "-trimpath", *extra, "-ldflags", linked, "-o", f"{out}/", *packages]
    done = subprocess.run(command, cwd=module, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun(f"building {part} failed: {done.stderr.strip()[-2000:]}")
    for program in out.iterdir():
        program.replace(folder / _RENAMED.get(program.name, program.name))
    out.rmdir()
    (folder / f".{part}").write_text(_recipe(part))


def _tools(module: Path) -> list[str]:
    """Return the packages that the tool directives of a go.mod name."""
    text = (module / "go.mod").read_text()
    block = re.search(r"^tool \((.*?)^\)", text, re.M | re.S)
    return block.group(1).split() if block else re.findall(r"^tool (\S+)", text, re.M)


def _version(module: Path, name: str) -> str:
    found = re.search(rf"^(?:require )?\s*{re.escape(name)} (v\S+)", (module / "go.mod").read_text(), re.M)
    assert found is not None
    return found.group(1)
