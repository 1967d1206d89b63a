"""Container images without a registry: some made of one static program each, and the project's own from its Dockerfile.

The Dockerfile's base is `python:3.13-slim` for everybody else. Here it is what Debian's `debootstrap` makes of
Debian 13, whose Python is 3.13.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.tools.needs import CannotRun, cache, say

ROOT = Path(__file__).parent.parent.parent.parent
BASE = "localhost/coterie-tests-base:trixie"
IMAGE = "coterie:dev"
PROMETHEUS = "local/prometheus:1"
NEXT_IMAGE = "coterie:next"
"""The same under another name: what a release that changes nothing would be."""
STORAGE = {"STORAGE_DRIVER": "overlay"}
SOURCES = (
    "Dockerfile",
    ".dockerignore",
    "pyproject.toml",
    "README.md",
    "protocol",
    "node",
    "client",
    "operator",
    "scripts",
)

_PAUSE = """\
#include <signal.h>
#include <unistd.h>
static void end(int number) { (void)number; _exit(0); }
int main(void) { signal(SIGINT, end); signal(SIGTERM, end); for (;;) pause(); }
"""


def helpers(programs: Path) -> list[Path]:
    """Return the archives of the images of others: pause, coredns and prometheus. Raises CannotRun."""
    folder = cache("kube") / "images"
    folder.mkdir(parents=True, exist_ok=True)
    pause = folder / "pause"
    if not pause.exists():
        done = subprocess.run(
            ["cc", "-static", "-O2", "-x", "c", "-o", str(pause), "-"],
            input=_PAUSE,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CannotRun(f"cannot compile a program of five lines: {done.stderr}; apt-get install gcc libc6-dev")
    made = []
    for name, program in (("pause", pause), *((one, programs / one) for one in ("coredns", "prometheus"))):
        tag = "1"
        archive = folder / f"{name}.tar"
        if not archive.exists() or archive.stat().st_mtime < program.stat().st_mtime:
            _archive(archive, program, f"local/{name}:{tag}")
        made.append(archive)
    return made


def ours() -> Path:
    """Return the archive of the project's image, built anew when anything has changed that goes into it."""
    folder = cache("kube") / "images"
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"coterie-{_sources()}.tar"
    if not archive.exists():
        _base()
        for old in folder.glob("coterie-*.tar"):
            old.unlink()
        say("building the image from the Dockerfile")
        started = time.monotonic()
        _run([str(ROOT / "scripts" / "image"), "--base", BASE, "--tag", IMAGE])
        partial = archive.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        _run(["buildah", "push", "-q", IMAGE, f"docker-archive:{partial}:{IMAGE}"])
        partial.replace(archive)
        say(f"  image: {time.monotonic() - started:.0f} s")
    return archive


def _base() -> None:
    """Make the base image, unless buildah has it."""
    if _run(["buildah", "images", "-q", BASE], check=False).returncode == 0:
        return
    say("building a base image of Debian 13: two minutes the first time")
    started = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="coterie-base-"))
    try:
        packages = "python3,python3-venv,python3-pip,ca-certificates"
        _run(["debootstrap", "--variant=minbase", f"--include={packages}", "trixie", str(root)])
        # What python:3.13-slim offers by these names.
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
        # A company's own authority, where packages come through a proxy of its.
        bundle = Path("/etc/ssl/certs/ca-certificates.crt")
        if bundle.exists():
            shutil.copy(bundle, root / "etc/ssl/certs/ca-certificates.crt")
        container = _run(["buildah", "from", "scratch"]).stdout.strip()
        try:
            _run(["buildah", "copy", "-q", container, f"{root}/", "/"])
            _run(["buildah", "config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", container])
            _run(["buildah", "commit", "-q", container, BASE])
        finally:
            _run(["buildah", "rm", container], check=False)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    say(f"  base: {time.monotonic() - started:.0f} s")


def _run(command: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **STORAGE}, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise CannotRun(f"`{' '.join(command)}` failed:\n{(done.stdout + done.stderr).strip()[-3000:]}")
    return done


def _sources() -> str:
    """Return a digest of everything that the image is made of."""
    digest = hashlib.sha256()
    for name in SOURCES:
        top = ROOT / name
        files = [top] if top.is_file() else sorted(top.rglob("*"))
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT)}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _archive(path: Path, program: Path, tag: str) -> None:
    """Write an image of one static program as `docker save` would (OCI image spec; docker-archive layout)."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo(program.name)
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as file:
            tar.addfile(entry, file)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = json.dumps(
        {
            "architecture": machine,
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    name = hashlib.sha256(config).hexdigest()
    manifest = json.dumps([{"Config": f"{name}.json", "RepoTags": [tag], "Layers": [f"{digest}.tar"]}]).encode()
    partial = path.with_suffix(".partial")
    with tarfile.open(partial, mode="w") as tar:
        for member, content in (
            (f"{name}.json", config),
            (f"{digest}.tar", layer.getvalue()),
            ("manifest.json", manifest),
        ):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    partial.replace(path)
