"""``fermata dev``: everything under one roof, and nothing left when it ends."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.system import ROOT, stop, wait_until

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "TERM": "dumb", "LANG": "C.UTF-8"}
CLIP = "26c9c592-0566-46cf-bb71-91ac1deaa7b5"


class Dev:
    """``fermata dev`` in a folder of its own, and commands beside it in the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "dev.log"

    def start(self) -> "Dev":
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker", "dev", "--port", "0", "--simulator-port", "0"],
                cwd=self.folder, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: b"ready." in self.log.read_bytes(), seconds=40, what="the worker")
        return self

    def fermata(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "worker", *arguments],
            cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, *words: str) -> psutil.Process:
        """The eldest process whose command line has these words."""
        return next(p for p in self.family() if all(w in " ".join(p.cmdline()) for w in words))


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    dev = Dev(tmp_path).start()
    yield dev
    stop(dev.process)


def _gone(family: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)


def test_ctrl_c_stops_all_and_the_next_start_finds_the_jobs_again(dev: Dev) -> None:
    submitted = dev.fermata("submit", "account.credits", "--wait", "--json")
    assert submitted.returncode == 0, submitted.stderr
    (job,) = json.loads(submitted.stdout)
    family = dev.family()

    os.killpg(dev.process.pid, signal.SIGINT)

    assert dev.process.wait(20) == 0
    wait_until(lambda: _gone(family), what="no process is left")
    assert not (dev.folder / ".fermata" / "dev.env").exists()

    dev.start()
    kept = json.loads(dev.fermata("jobs", "--json").stdout)
    assert [each["job_id"] for each in kept] == [job["job_id"]]


def test_when_its_terminal_goes_away_nothing_is_left(dev: Dev) -> None:
    family = dev.family()
    dev.process.send_signal(signal.SIGHUP)
    assert dev.process.wait(20) == 0
    wait_until(lambda: _gone(family), what="no process is left")
    assert not (dev.folder / ".fermata" / "dev.env").exists()


def test_a_script_reaches_its_broker_as_the_readme_says(dev: Dev) -> None:
    lines = re.findall(r"^\$ (export BROKER_URL.*)\n\$ (export .*)\n\$ python (.*)$",
                       (ROOT / "README.md").read_text(), re.MULTILINE)  # fmt: skip
    ((broker, backend, script),) = lines
    ran = subprocess.run(
        ["sh", "-ec", f"{broker}; {backend}; exec {sys.executable} {ROOT}/{script}"],
        cwd=dev.folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "credits left" in ran.stdout


@pytest.mark.parametrize("words", [("gunicorn",), ("celery", "worker"), ("valkey",)])
def test_when_one_process_dies_all_of_it_ends(dev: Dev, words: tuple[str, ...]) -> None:
    family = dev.family()
    dev.child(*words).kill()
    assert dev.process.wait(30) != 0
    wait_until(lambda: _gone(family), what="no process is left")


def test_a_second_start_says_that_the_first_one_runs(dev: Dev) -> None:
    second = dev.fermata("dev", "--port", "0", "--simulator-port", "0")
    assert second.returncode == 3
    assert "already runs" in second.stderr


def test_secrets_are_for_the_owner_alone_and_never_in_the_logs(dev: Dev) -> None:
    dev.fermata("submit", "sonic.remaster", "--source", CLIP, "--wait")
    folder = dev.folder / ".fermata"
    for name in ("dev.env", "signing.key", "valkey.conf"):
        assert (folder / name).stat().st_mode & 0o077 == 0
    told = dict(line.split("=", 1) for line in (folder / "dev.env").read_text().splitlines())
    password = told["FERMATA_REDIS_URL"].split(":")[2].split("@")[0]
    log = dev.log.read_text()
    for secret in (told["FERMATA_SIGNING_KEYS"], told["FERMATA_API_KEY"], password):
        assert secret not in log


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = Dev(tmp_path).fermata("dev", "--port", port)
    assert refused.returncode == 3
    assert f"port {port}" in refused.stderr
    assert "Traceback" not in refused.stderr
