"""With FERMATA_LOG_FORMAT=json each process says JSON, from its first line to its last."""

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.acceptance.test_refusals import CELERY, COMPLETE, GUNICORN
from tests.acceptance.test_refusals import DESK as DESK_SERVER
from tests.ports import take_port
from tests.system import System, stop, wait_until

JSON: dict[str, Any] = {"FERMATA_LOG_FORMAT": "json"}
DESK = (*DESK_SERVER, "--bind", "{address}", "desk.wsgi:app")
RECEIVER = (*GUNICORN, "--bind", "{address}", "webhook_receiver.wsgi:app")
REMASTER = ("submit", "sonic.remaster", "-p", "mv=chirp-v5", "--wait")


def events(log: Path) -> list[dict[str, Any]]:
    """Read a log of which every line is JSON."""
    lines = log.read_text("utf-8").splitlines()
    assert lines
    return [json.loads(line) for line in lines]


def test_every_line_of_a_running_system_is_json(tmp_path: Path) -> None:
    with System(tmp_path, **JSON) as system:
        system.worker(app="tests.canvas_app")
        system.run("beat", "-m", "celery", "-A", "worker.app", "beat", "-l", "INFO")
        wait_until(lambda: "beat: Starting" in system.log("beat"), what="beat runs")
        assert requests.get(f"{system.desk().url}/login?token=wrong", timeout=5).status_code == 401
        command = [sys.executable, "-m", "worker", *REMASTER, "--source", str(uuid.uuid4())]
        subprocess.run(command, env=system.environment, cwd=tmp_path, check=True, timeout=60)
        system.app.send_task("test.talk", queue="fermata").get(timeout=20)
        for process in reversed(system._processes):
            stop(process)
    settled = next(e for e in events(tmp_path / "worker.log") if e["event"] == "job_settled")
    assert (settled["source"], settled["tenant"]) == ("webhook", "default")
    assert 0 < settled["seconds"] < 60
    worker, beat, receiver, desk = (
        [each["event"] for each in events(tmp_path / f"{name}.log")]
        for name in ("worker", "beat", "receiver", "desk")
    )
    assert any("worker@test v" in event and "[queues]" in event for event in worker)
    assert {"job_settled", "printed\non two lines", "worker_shuts_down"} <= set(worker)
    assert any("UserWarning: warned" in event for event in worker)
    assert "is starting." in beat[0]
    assert not any("DB Reset" in event for event in beat)
    assert receiver[0].startswith("Starting gunicorn")
    assert receiver[-1] == "delivery_received"  # the server's own farewells are left out
    assert desk[0].startswith("Starting gunicorn")
    assert {"desk_open_on_this_machine", "login_refused"} <= set(desk)


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        ((*CELERY, "worker"), {"FERMATA_IN_FLIHGT": "5"}),
        ((*CELERY, "beat"), {"FERMATA_IN_FLIHGT": "5"}),
        (RECEIVER, {"FERMATA_IN_FLIHGT": "5"}),
        (DESK, {"FERMATA_DESK_TOKENS": "ada"}),
        ((*CELERY, "worker"), {"FERMATA_API_KEY": ""}),
    ],
    ids=["worker", "beat", "receiver", "desk", "worker without a key"],
)  # fmt: skip
def test_a_refused_start_is_json_with_its_cause(
    module: tuple[str, ...], settings: dict[str, str], tmp_path: Path
) -> None:
    command = [each.format(address=f"127.0.0.1:{take_port()}") for each in module]
    with (tmp_path / "log").open("wb") as log:
        ran = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path, env=COMPLETE | JSON | settings,
            stdout=log, stderr=subprocess.STDOUT, timeout=60, check=False,
        )  # fmt: skip
    assert ran.returncode == 3
    told = [each for each in events(tmp_path / "log") if "refuses_to_start" in each["event"]]
    assert next(iter(settings)) in told[0]["why"]


def test_an_error_that_ends_a_process_is_one_line(tmp_path: Path) -> None:
    crash = "from worker import log; log.take_over(); print('first'); raise ValueError('boom')"
    with (tmp_path / "log").open("wb") as log:
        subprocess.run(
            [sys.executable, "-c", crash], env=COMPLETE, stdout=log, stderr=log, check=False
        )
    first, last = events(tmp_path / "log")
    assert (first["event"], last["event"], last["level"]) == ("first", "uncaught", "critical")
    assert last["exception"][0]["exc_value"] == "boom"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("threading.Thread(target=lambda: 1 / 0).start()", ("critical", "uncaught")),
        ("class A: __del__ = lambda self: 1 / 0\nA()", ("error", "ignored: <function")),
        ("print('first'); print('dots', end='')", ("info", "dots")),
        ("sys.stdout.write('first\\nlast')", ("info", "first\nlast")),
    ],
    ids=["a thread", "a destructor", "no line end", "lines without an end"],
)
def test_what_nobody_caught_or_ended_is_one_line_too(
    code: str, told: tuple[str, str], tmp_path: Path
) -> None:
    whole = f"import sys, threading; from worker import log; log.take_over()\n{code}"
    with (tmp_path / "log").open("wb") as log:
        subprocess.run(
            [sys.executable, "-c", whole], env=COMPLETE, stdout=log, stderr=log, check=True
        )
    level, begins = told
    *before, last = events(tmp_path / "log")
    assert last["level"] == level
    assert last["event"].startswith(begins)
    assert [each["event"] for each in before] in ([], ["first"])
