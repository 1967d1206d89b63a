"""Make a virtual environment as small as a container image wants it: slim-venv.py VENV. Run by the Dockerfile.

What is left runs as before: only what no program of ours imports goes, and everything else is compiled, for the file
system is read-only later, and a `coterie send` should not compile anything first. Compiled files are checked against
nothing, so the same sources give the same bytes.
"""

from __future__ import annotations

import compileall
import importlib.util
import py_compile
import shutil
import sys
from pathlib import Path

UNUSED = (
    "kubernetes/client",  # the blocking client; the operator uses kubernetes.aio
    "kubernetes/config",
    "kubernetes/dynamic",
    "kubernetes/informer",
    "kubernetes/leaderelection",
    "kubernetes/stream",
    "kubernetes/utils",
    "kubernetes/watch",
    "kubernetes/e2e_test",
    "kubernetes/test",
    "uvloop/loop.c",
)
SUFFIXES = {".pyi", ".pyx", ".pxd", ".c", ".h"}
"""Sources of compiled modules, and types for people who write code."""
HOLLOW = {"kubernetes/__init__.py": '"""Only kubernetes.aio is installed here."""\n'}
"""Files that would import what has gone."""
COMPILED_ONLY = ("kubernetes",)
"""Generated code in thousands of files that nobody will read in a container."""


def main(venv: Path) -> None:
    """Take out what is not needed, and compile the rest."""
    (packages,) = venv.glob("lib/python3*/site-packages")
    for name in UNUSED:
        path = packages / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for path in [path for path in packages.rglob("*") if path.suffix in SUFFIXES and path.is_file()]:
        path.unlink()
    for path in [path for path in packages.rglob("tests") if path.is_dir()]:
        shutil.rmtree(path)
    for name, text in HOLLOW.items():
        (packages / name).write_text(text)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for name in COMPILED_ONLY:
        compileall.compile_dir(packages / name, quiet=1, legacy=True, invalidation_mode=mode, workers=0)
        for path in list((packages / name).rglob("*.py")):
            if Path(importlib.util.cache_from_source(str(path))).exists() or path.with_suffix(".pyc").exists():
                path.unlink()
    compileall.compile_dir(packages, quiet=1, invalidation_mode=mode, workers=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
