"""Addresses of every kind, given as a user gives them: in the environment of the real commands."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from honcho.environ import parse_procfile

from tests.acceptance.test_refusals import CELERY, COMPLETE, GUNICORN, refused
from tests.ports import take_port
from tests.system import ROOT, SIGNING_KEY, stop, wait_until
from tests.unit.stage import Stage, on_stage

PROCFILE = parse_procfile((ROOT / "Procfile").read_text()).processes
TOKENS = {"FERMATA_DESK_TOKENS": f"ada:operate:{SIGNING_KEY}"}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
BIN = str(Path(sys.executable).parent)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with on_stage() as stage:
        yield stage


def answers(url: str, *, status: int = 503) -> bool:
    """Say whether somebody answers; the receiver says that no Redis is there."""
    try:
        return requests.get(url, timeout=5).status_code == status
    except requests.RequestException:
        return False


@pytest.mark.parametrize(
    ("host", "reached_at"),
    [
        (None, "127.0.0.1"), ("", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"), ("localhost", "localhost"), ("::1", "[::1]"),
        ("[::1]", "[::1]"), ("::", "[::1]"), ("[::]", "127.0.0.1"),
    ],
)  # fmt: skip
def test_the_receiver_of_the_procfile_listens_where_it_is_told(
    host: str | None, reached_at: str, tmp_path: Path
) -> None:
    port = str(take_port())
    told = {"PORT": port, "WEB_CONCURRENCY": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    if host is not None:
        told["FERMATA_HOST"] = host
    receiver = subprocess.Popen(
        ["sh", "-c", PROCFILE["receiver"]], cwd=tmp_path, env=COMPLETE | told,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        url = f"http://{reached_at}:{port}/healthz"
        wait_until(lambda: answers(url), seconds=30, what=f"it listens on {host}")
    finally:
        stop(receiver)


@pytest.mark.parametrize(
    ("told", "reached_at"),
    [({}, "127.0.0.1"), ({"DESK_HOST": "::1"}, "[::1]"), (TOKENS | {"DESK_HOST": "::"}, "[::1]")],
    ids=["by default", "on loopback", "everywhere, with tokens"],
)
def test_the_desk_of_the_procfile_listens_where_it_is_told(
    told: dict[str, str], reached_at: str, tmp_path: Path
) -> None:
    port = str(take_port())
    path = {"DESK_PORT": port, "PATH": f"{BIN}:{os.environ['PATH']}"}
    desk = subprocess.Popen(
        ["sh", "-c", PROCFILE["desk"]], cwd=tmp_path, env=COMPLETE | path | told,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        url = f"http://{reached_at}:{port}/healthz"
        wait_until(lambda: answers(url, status=204), seconds=30, what="it listens")
    finally:
        stop(desk)


@pytest.mark.parametrize("service", ["receiver", "desk", "simulator"])
def test_a_health_check_of_compose_asks_no_proxy(service: str, stage: Stage) -> None:
    _, python, dash, code = COMPOSE["services"][service]["healthcheck"]["test"]
    assert (python, dash) == ("python", "-c")
    port = stage.url.rpartition(":")[2]
    asked = code.replace(":8000/", f":{port}/")
    for ours in (":8001/", ":8002/"):
        asked = asked.replace(ours, f":{port}/")
    dead = {"http_proxy": "http://127.0.0.1:1", "all_proxy": "http://127.0.0.1:1"}
    subprocess.run([sys.executable, "-c", asked], env=dead, check=True, timeout=30)
    assert stage.heard[0].line.endswith("healthz HTTP/1.1")


@pytest.mark.parametrize(
    "module",
    [
        pytest.param((*CELERY, "worker"), id="worker"),
        pytest.param((*CELERY, "beat"), id="beat"),
        pytest.param((*GUNICORN, "webhook_receiver.wsgi:app"), id="receiver"),
        pytest.param(("worker", "doctor"), id="fermata doctor"),
        pytest.param(("worker", "jobs"), id="fermata jobs"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_by(
    module: tuple[str, ...], tmp_path: Path
) -> None:
    if module[0] == "gunicorn":
        module = (*module[:-1], "--bind", f"127.0.0.1:{take_port()}", module[-1])
    said = refused(
        tmp_path, *module,
        FERMATA_REDIS_URL="rediss://:hunter2@h/abc",
        FERMATA_BROKER_URL="redis://:hunter2@h?retry_on_timeout=1",
        FERMATA_RESULT_BACKEND="rediss://:hunter2@h?ssl_cert_reqs=CERT_STRICT",
        FERMATA_PUBLIC_URL="https://fermata.example/?from=provider",
    )  # fmt: skip
    assert "FERMATA_REDIS_URL: The database, after the slash or after db=, must be a number" in said
    assert "FERMATA_BROKER_URL: Leave out retry_on_timeout" in said
    assert "FERMATA_RESULT_BACKEND: ssl_cert_reqs must be required, optional or none" in said
    assert "FERMATA_PUBLIC_URL: Must end before the ?" in said
    assert "hunter2" not in said
