"""The files that people and machines start Fermata with: they agree, and hold what they should."""

import json
import os
import re
import subprocess
from importlib import resources
from importlib.metadata import entry_points
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml
from dotenv import dotenv_values
from honcho.environ import parse, parse_procfile

from benchmarks.house import default_command
from worker.app import _configuration
from worker.cli.dev.system import desk_command
from worker.core.health.checks import DESK_PORT, THREADS, WORKER_COMMAND

ROOT = Path(__file__).parent.parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock")
COMMANDS = parse_procfile((ROOT / "Procfile").read_text()).processes
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]


def test_the_procfile_has_the_five_processes() -> None:
    assert list(COMMANDS) == ["receiver", "worker", "slow", "desk", "beat"]
    assert all("exec " in command for command in COMMANDS.values()), "the shell would eat SIGTERM"


@pytest.mark.parametrize("name", ["worker", "slow"])
def test_the_benchmark_starts_a_worker_as_the_procfile_does(name: str) -> None:
    words = default_command(name)
    assert words[:4] == ["celery", "-A", "worker.app", "worker"]
    concurrency = words[words.index("--concurrency") + 1]
    assert f":-{concurrency}}}" in COMMANDS[name]
    assert not any("$" in word for word in words)


def test_the_compose_file_is_valid() -> None:
    # The Compose Specification's own schema, as check-jsonschema ships it.
    folder = resources.files("check_jsonschema.builtin_schemas")
    schema = json.loads((folder / "vendor" / "compose-spec.json").read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(COMPOSE)


def test_the_worker_submits_in_threads_as_many_as_the_doctor_wants() -> None:
    wanted = f'--pool threads --concurrency "${{WORKER_CONCURRENCY:-{THREADS}}}"'
    assert wanted in COMMANDS["worker"]
    assert f"WORKER_CONCURRENCY={THREADS}\n" in (ROOT / ".env.example").read_text()
    assert f"`{WORKER_COMMAND}`" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_compose_runs_the_very_command_of_the_procfile(name: str) -> None:
    assert SERVICES[name]["command"] == ["sh", "-c", COMMANDS[name].replace("$", "$$")]


def test_the_receiver_for_the_simulator_is_a_receiver() -> None:
    assert SERVICES["receiver-for-simulator"]["command"] == SERVICES["receiver"]["command"]


def test_only_the_simulator_and_its_receiver_need_a_profile() -> None:
    profiles = {
        name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service
    }
    assert profiles == {"simulator": ["dev"], "receiver-for-simulator": ["dev"]}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    user, group = (int(number) for number in service["user"].split(":"))
    assert user > 0
    assert group > 0
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_health_check_or_says_why_not(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check.get("test") or (check == {"disable": True} and SERVICES[name]["x-no-health-check"])


@pytest.mark.parametrize("name", ["receiver", "worker", "slow", "desk", "beat"])
def test_a_service_waits_for_a_healthy_valkey(name: str) -> None:
    assert SERVICES[name]["depends_on"]["valkey"] == {"condition": "service_healthy"}


def test_valkey_keeps_what_it_is_told() -> None:
    command = " ".join(SERVICES["valkey"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert SERVICES["valkey"]["volumes"] == ["valkey:/data"]


def test_only_receiver_and_desk_are_published_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"receiver": ["127.0.0.1:8000:8000"], "desk": ["127.0.0.1:8002:8002"]}
    assert COMPOSE["networks"]["state"] == {"internal": True}


def test_the_desk_reads_the_archive_and_cannot_write_it() -> None:
    assert SERVICES["desk"]["volumes"] == [f"{each}:ro" for each in SERVICES["slow"]["volumes"]]


def test_the_doctor_of_each_service_finds_the_desk_by_a_name_that_it_goes_by() -> None:
    (url,) = {SERVICES[name]["environment"]["FERMATA_DESK_URL"] for name in COMMANDS}
    desk = SERVICES["desk"]["environment"]
    assert url == f"http://desk:{desk['DESK_PORT']}"
    assert desk["FERMATA_DESK_HOSTS"].startswith("desk,")


def test_the_desk_has_a_thread_for_each_live_page_in_the_one_process_that_knows_them() -> None:
    words = COMMANDS["desk"].split()
    assert words[words.index("--workers") + 1] == "1"
    threads = words[words.index("--threads") + 1]
    command = desk_command(SimpleNamespace(fileno=lambda: 3))  # type: ignore[arg-type]
    assert threads == f'"${{DESK_THREADS:-{command[command.index("--threads") + 1]}}}"'
    assert f"DESK_PORT:-{DESK_PORT}}}" in COMMANDS["desk"]


def test_the_public_face_holds_no_api_key() -> None:
    for name in ("receiver", "receiver-for-simulator"):
        assert SERVICES[name]["environment"]["FERMATA_API_KEY"] == ""
        assert SERVICES[name]["environment"]["FERMATA_API_KEY_FILE"] == ""


def test_the_worker_is_given_the_time_to_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERMATA_REDIS_URL", "redis://127.0.0.1:1/0")
    grace = re.fullmatch(r"(\d+)m(\d+)s", SERVICES["worker"]["stop_grace_period"])
    assert grace is not None
    assert int(grace[1]) * 60 + int(grace[2]) > _configuration()["fermata_time_limit"] + 15


@pytest.mark.parametrize("name", OURS)
def test_compose_and_dockerfile_name_the_same_user(name: str) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", dockerfile, re.M) == [SERVICES[name]["user"]]


def test_the_image_takes_only_locked_wheels() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    for command in re.findall(r"pip [^&\n]*install [^&\n]*", dockerfile):
        locked = "--require-hashes" in command and "--only-binary :all:" in command
        assert locked or "--no-index" in command, command


def test_the_image_is_given_every_package_and_no_settings() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    named = {line[1:].rstrip("/") for line in lines if line.startswith("!")}
    assert {line for line in lines if line and line[0] not in "#!"} == {"*", "**/__pycache__"}
    packages = {"worker", "tasks", "webhook_receiver", "desk", "simulator"}
    assert packages | {"requirements.lock"} <= named
    assert not any(name.startswith(".") for name in named)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_requirement_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    requirements = re.split(r"\n(?=[A-Za-z0-9])", text)
    assert len(requirements) > 20
    for requirement in requirements:
        assert re.match(r"[A-Za-z0-9._-]+==\S+", requirement), requirement.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement), requirement.splitlines()[0]
    assert "://" not in text
    assert "index-url" not in text


def test_development_runs_on_the_versions_that_are_shipped() -> None:
    shipped, development = (
        set(re.findall(r"^([A-Za-z0-9._-]+==[^\s;]+)", (ROOT / lock).read_text(), re.M))
        for lock in LOCKS
    )
    assert shipped < development


def test_every_make_target_has_a_help_line() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.M)
    assert phony is not None
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    shown = subprocess.run(
        ["make"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    targets = re.findall(r"^  make ([\w-]+) +\S", shown, re.M)
    assert sorted(targets) == sorted(phony[1].split())
    assert {"setup", "demo", "check", "test", "bench", "run"} < set(targets)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^exec python3 - make test ", script.read_text(), re.M)
    subprocess.run(["bash", "-n", script], check=True)


def test_the_example_settings_mean_the_same_to_all_who_read_them() -> None:
    text = (ROOT / ".env.example").read_text()
    values = dotenv_values(stream=StringIO(text))
    assert parse(text) == values
    assert all(values.values()), "an empty value is not a default"
    secrets = {"FERMATA_API_KEY", "FERMATA_SIGNING_KEYS", "FERMATA_DESK_TOKENS"}
    assert not secrets & set(values), "a secret is shipped"


def test_the_command_begins_where_an_early_ctrl_c_is_caught() -> None:
    (command,) = entry_points(group="console_scripts", name="fermata")
    assert command.value == "worker.__main__:main"
