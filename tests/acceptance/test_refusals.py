"""What cannot start says so in one clear line, with an exit code, and leaves nothing behind."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests import launcher
from tests.ports import take_port
from tests.system import ROOT, SIGNING_KEY
from worker.store.embedded import EmbeddedValkey

BARE = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
COMPLETE = BARE | {
    "FERMATA_REDIS_URL": "redis://127.0.0.1:1/0",
    "FERMATA_API_KEY": "sk_simulated",
    "FERMATA_PUBLIC_URL": "https://fermata.example",
    "FERMATA_SIGNING_KEYS": SIGNING_KEY,
}
GUNICORN = ("gunicorn", "--no-control-socket", "--worker-class", "webhook_receiver.server.Worker")
CELERY = ("celery", "-A", "worker.app")


def refused(folder: Path, *module: str, code: int = 3, **settings: str) -> str:
    """Run a Python module that must refuse to start; returns what it said."""
    ran = launcher.run("-m", *module, environment=COMPLETE | settings, folder=folder)
    return _refusal(ran, code)


def _refusal(ran: "subprocess.CompletedProcess[str]", code: int) -> str:
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "module",
    [
        pytest.param((*CELERY, "worker"), id="worker"),
        pytest.param((*CELERY, "beat"), id="beat"),
        pytest.param(("worker", "jobs"), id="fermata jobs"),
        pytest.param(("worker", "doctor"), id="fermata doctor"),
        pytest.param(("worker", "dev", "--port", "0", "--simulator-port", "0"), id="fermata dev"),
    ],
)
def test_a_misspelt_setting_is_refused_by(module: tuple[str, ...], tmp_path: Path) -> None:
    said = refused(tmp_path, *module, FERMATA_IN_FLIHGT="5")
    assert "FERMATA_IN_FLIHGT: There is no such setting; did you mean FERMATA_IN_FLIGHT?" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "module",
    [
        pytest.param((*CELERY, "worker"), id="worker"),
        pytest.param(
            (*GUNICORN, "--bind", "{address}", "webhook_receiver.wsgi:app"), id="receiver"
        ),
        pytest.param(("worker", "jobs"), id="fermata jobs"),
    ],
)
def test_settings_in_another_encoding_are_refused_by(
    module: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("FERMATA_IN_FLIGHT=5\n", "utf-16")
    command = [each.format(address=f"127.0.0.1:{take_port()}") for each in module]
    said = refused(tmp_path, *command)
    assert "fermata: settings: .env is UTF-16; save it as UTF-8 text\n" in said


def test_a_receiver_with_wrong_settings_says_so_and_ends(tmp_path: Path) -> None:
    address = f"127.0.0.1:{take_port()}"
    wrong: dict[str, Any] = {"FERMATA_SIGNING_KEYS": "", "FERMATA_IN_FLIHGT": "5"}
    said = refused(tmp_path, *GUNICORN, "--bind", address, "webhook_receiver.wsgi:app", **wrong)
    assert "fermata: wrong settings:\n" in said
    assert "  FERMATA_SIGNING_KEYS: Required." in said
    assert "did you mean FERMATA_IN_FLIGHT?" in said
    assert "gunicorn" not in said  # before the server says anything


DESK = ("gunicorn", "--no-control-socket", "--worker-class", "desk.server.Worker")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_a_desk_without_tokens_that_others_could_reach_says_so_and_ends(
    host: str, tmp_path: Path
) -> None:
    port = take_port()
    asked = ("worker", "desk", "--host", host.strip("[]"), "--port", str(port))
    assert "without FERMATA_DESK_TOKENS the desk opens" in refused(tmp_path, *asked)
    said = refused(tmp_path, *DESK, "--bind", f"{host}:{port}", "desk.wsgi:app")
    assert said.splitlines()[-1].startswith("fermata: without FERMATA_DESK_TOKENS the desk opens")
    assert "Booting worker" not in said


def test_a_desk_without_tokens_in_another_server_says_so_and_ends(tmp_path: Path) -> None:
    plain = ("gunicorn", "--no-control-socket", "--bind", f"127.0.0.1:{take_port()}")
    assert "--worker-class desk.server.Worker" in refused(tmp_path, *plain, "desk.wsgi:app")


def test_a_desk_with_wrong_tokens_says_so_and_ends(tmp_path: Path) -> None:
    said = refused(tmp_path, *DESK, "desk.wsgi:app", FERMATA_DESK_TOKENS=f"ada:root:{SIGNING_KEY}")
    assert "  FERMATA_DESK_TOKENS: Token 1: its role must be one of" in said
    assert SIGNING_KEY not in said
    assert "gunicorn" not in said  # before the server says anything


DEV = ("worker", "dev", "--port", "0", "--simulator-port", "0")


@pytest.mark.parametrize("place", ["taken", "taken/below", "/proc/self", "/proc/nowhere"])
def test_a_folder_that_cannot_keep_data_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    said = refused(tmp_path, *DEV, code=6, FERMATA_DATA_DIR=place)
    assert said.startswith("fermata: data cannot be kept in /")
    assert said.count("\n") == 1


@pytest.mark.parametrize("place", ["taken/below", "/proc/nowhere"])
def test_a_demo_whose_output_cannot_be_written_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    said = refused(tmp_path, "worker", "demo", "--output", place, code=6)
    assert "choose another --output" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [("--port", "70000"), ("--simulator-port", "-1"), ("--concurrency", "0"),
     ("--port", "29990", "--simulator-port", "29990"), ("--desk-port", "29990", "--port", "29990")],
)  # fmt: skip
def test_numbers_that_cannot_be_are_wrong_usage(options: tuple[str, ...], tmp_path: Path) -> None:
    assert options[0] in refused(tmp_path, "worker", "dev", *options, code=2)
    assert not (tmp_path / ".fermata" / "valkey.log").exists()


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[str]:
    """A server that keeps nothing: a worker refuses to start with it."""
    valkey = EmbeddedValkey(tmp_path / "valkey")
    with Redis.from_url(valkey.start()) as redis:
        redis.config_set("appendonly", "no")
    yield valkey.url
    valkey.stop()


_START = re.compile(
    r"beat: Starting|Starting gunicorn|Listening at: |Using worker: |Booting worker with pid: "
)


@pytest.mark.parametrize(
    ("api_key", "cause"), [("", "FERMATA_API_KEY: Required."), ("sk", "worker_refuses_to_start")]
)
def test_under_honcho_the_cause_of_a_refused_start_is_the_last_that_is_said(
    api_key: str, cause: str, forgetful: str, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "Procfile", tmp_path)
    settings = {"FERMATA_REDIS_URL": forgetful, "FERMATA_API_KEY": api_key, "PORT": "0"}
    settings |= {"DESK_PORT": "0", "FERMATA_DESK_TOKENS": f"ada:operate:{SIGNING_KEY}"}
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    ran = subprocess.run(
        [sys.executable, "-m", "honcho", "start"], cwd=tmp_path,
        env=COMPLETE | settings | path, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert ran.returncode == 3, ran.stdout
    lines = ran.stdout.splitlines()
    last = max(number for number, line in enumerate(lines) if cause in line)
    # Five processes start at once: of the others' lines, only those of their start may come later.
    said = [line for line in lines[last + 1 :] if " system " not in line]
    assert [line for line in said if not _START.search(line)] == []


SERVE = (*GUNICORN, "--bind", "127.0.0.1:0", "webhook_receiver.wsgi:app")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param((*CELERY, "worker"), "tasks.py", id="worker"),
        pytest.param((*CELERY, "worker"), "tasks/__init__.py", id="worker, a package"),
        pytest.param((*CELERY, "beat"), "tasks.py", id="beat"),
        pytest.param(SERVE, "worker.py", id="receiver"),
        pytest.param(SERVE, "worker/__init__.py", id="receiver, a package"),
        pytest.param(DEV, "tasks.py", id="fermata dev"),
        pytest.param(DEV, "simulator.py", id="fermata dev, the simulator"),
        pytest.param(("worker", "desk"), "desk.py", id="fermata desk"),
    ],
)
def test_a_file_that_stands_before_fermatas_own_is_named(
    module: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    theirs, package = tmp_path / name, name.partition("/")[0].removesuffix(".py")
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("raise SystemExit('this file was run')\n")

    ran = subprocess.run(
        [sys.executable, "-m", *module],
        cwd=tmp_path, env=COMPLETE, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    said = _refusal(ran, 3)
    assert f"{theirs} would be loaded in place of Fermata's own package, {ROOT / package}." in said
    assert "Rename it, or start Fermata in another folder." in said


def test_a_command_that_loads_no_task_does_not_care(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").touch()
    command = [sys.executable, "-m", "worker", "operations"]
    ran = subprocess.run(command, cwd=tmp_path, env=BARE, capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")


INTERRUPTED = """
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "worker.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
runpy.run_module("worker", run_name="__main__")
"""


def test_ctrl_c_while_it_is_still_importing_ends_it_without_a_traceback(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        cwd=tmp_path, env=BARE, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (130, "fermata: interrupted\n")
