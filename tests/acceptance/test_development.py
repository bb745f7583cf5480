"""``fermata dev``: everything under one roof, and nothing left when it ends, however it ends."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import psutil
import pytest
import requests

from tests import launcher
from tests.ports import take_port
from tests.system import ROOT, stop, wait_until
from worker.cli.dev.crew import END_SECONDS
from worker.cli.group import EXIT_FILE
from worker.store.embedded import EmbeddedValkey

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "TERM": "dumb", "LANG": "C.UTF-8"}
# The desk takes a second of a core to start: two tests have it.
COMMAND = [
    sys.executable, "-m", "worker", "dev", "--port", "0", "--simulator-port", "0", "--no-desk",
]  # fmt: skip
DESK = ("--desk", "--desk-port", "0")
START_SECONDS = 60
ENOUGH = END_SECONDS + 5
ANY_NAME = 'it\'s a "folder", ü \\d\\ \udcff${HOME} %n' + "l" * 170
TIMETABLE = '[[schedule]]\nname = "nightly"\ncron = "0 3 1 1 *"\nmanifest = "songs.csv"\n'
CLIP = "26c9c592-0566-46cf-bb71-91ac1deaa7b5"


class Dev:
    """``fermata dev`` in a folder of its own, and commands beside it in the same folder."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.data = folder / ".fermata"
        self.log = folder / "dev.log"
        self.environment = ENVIRONMENT | settings

    def start(self, *options: str, **popen: Any) -> "Dev":
        """Start it, with its output in a file if nothing else is said, and wait until it is up."""
        with self.log.open("wb") as log:
            usual: dict[str, Any] = {"stdout": log, "stderr": subprocess.STDOUT}
            self.process = subprocess.Popen(
                [*COMMAND, *options], cwd=self.folder, env=self.environment,
                **usual | {"start_new_session": True} | popen,
            )  # fmt: skip
        if not popen:
            wait_until(lambda: "Ready" in self.said(), seconds=START_SECONDS, what="ready")
        return self

    def terminal(self, *command: str) -> Any:
        """Run a command in a terminal of its own."""
        program, *arguments = command
        return pexpect.spawn(
            program, arguments, cwd=str(self.folder), env=self.environment, encoding="utf-8"
        )

    def said(self) -> str:
        return self.log.read_text()

    def fermata(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return launcher.run(
            "-m", "worker", *arguments, environment=ENVIRONMENT, folder=self.folder, seconds=90
        )

    def group(self) -> list[psutil.Process]:
        """All that it started: one process group, whatever has become of its parent."""
        group = int((self.data / "lock").read_text().split()[1])
        return [process for process in psutil.process_iter() if _group(process) == group]

    def child(self, *words: str) -> psutil.Process:
        """The eldest process whose command line has these words."""
        return next(p for p in self.group() if all(w in " ".join(p.cmdline()) for w in words))

    def told(self) -> dict[str, str]:
        lines = (self.data / "dev.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def require_nothing_left(self, said: str) -> None:
        """Wait until no process, no port and no settings are left of it."""
        wait_until(lambda: not self.group(), seconds=ENOUGH, what="no process is left")
        for port in re.findall(r"127\.0\.0\.1:(\d+)", said):
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", int(port))), f"{port} still listens"
        assert not (self.data / "dev.env").exists()


def _group(process: psutil.Process) -> int:
    try:
        dead = process.status() == psutil.STATUS_ZOMBIE
        return 0 if dead else os.getpgid(process.pid)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return 0


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    dev = Dev(tmp_path).start()
    yield dev
    stop(dev.process)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """One for all tests that let it run."""
    folder = tmp_path_factory.mktemp("running") / ANY_NAME
    folder.mkdir()
    dev = Dev(folder).start(*DESK)
    yield dev
    stop(dev.process)


# -- it starts, and says so ---------------------------------------------------------------------


def test_it_says_in_a_few_lines_that_it_is_ready_where_and_what_to_try(running: Dev) -> None:
    dev = running
    said = dev.said()
    assert len(said[: said.index("Ready")].splitlines()) <= 12
    for name in ("valkey", "simulator", "receiver", "worker", "desk", "beat"):
        assert re.search(rf"^  {name} ", said, re.MULTILINE), said
    (receiver,) = re.findall(r"receiver +(http://\S+)", said)
    assert requests.get(f"{receiver}/healthz", timeout=5).ok

    (to_try,) = re.findall(r"^  (.*worker submit .*)$", said, re.MULTILINE)
    tried = subprocess.run(
        to_try, shell=True, cwd=dev.folder, env=ENVIRONMENT, capture_output=True, timeout=90,
        check=False,
    )  # fmt: skip
    assert tried.returncode == 0, tried.stderr
    settled = r"job_settled operation=\S+ outcome=succeed"
    wait_until(lambda: re.search(settled, dev.said().removeprefix(said)), what="the job is shown")
    assert len(dev.said().removeprefix(said).splitlines()) <= 8


def test_it_shows_the_link_by_which_to_enter_the_desk_once(running: Dev) -> None:
    desk = running.told()["FERMATA_DESK_URL"]
    (link,) = re.findall(rf"^  ({desk}/login\?token=\S+)$", running.said(), re.MULTILINE)
    entered = requests.get(link, timeout=5, allow_redirects=False)
    assert (entered.status_code, entered.headers["Location"]) == (303, "/")
    assert running.said().count(link) == 1


def test_a_desk_alone_says_its_link_and_ends_with_ctrl_c(running: Dev) -> None:
    port = str(take_port())
    desk = running.terminal(sys.executable, "-m", "worker", "desk", "--port", port)
    desk.expect(rf"(http://127\.0\.0\.1:{port}/login\?token=[\w-]+)", timeout=START_SECONDS)
    visitor = requests.Session()
    assert visitor.get(desk.match[1], timeout=5, allow_redirects=False).status_code == 303
    live = visitor.get(f"http://127.0.0.1:{port}/api/v1/events", timeout=5, stream=True)
    assert live.status_code == 200
    taken = running.fermata("desk", "--port", port)
    assert taken.returncode == 3
    assert f"port {port} cannot be used" in taken.stderr
    desk.sendintr()
    desk.expect(pexpect.EOF, timeout=ENOUGH)
    # The live page has ended with it: nothing had to be killed.
    assert "SIGKILL" not in desk.before
    assert desk.wait() == 0
    assert "Traceback" not in (desk.before or "")


def test_its_folder_may_have_any_name(running: Dev) -> None:
    assert running.folder.name == ANY_NAME
    asked = running.fermata("submit", "account.credits", "--wait")
    assert asked.returncode == 0, asked.stderr


def test_a_script_reaches_its_broker_as_the_readme_says(running: Dev) -> None:
    lines = re.findall(r"^\$ (export BROKER_URL.*)\n\$ (export .*)\n\$ python (.*)$",
                       (ROOT / "README.md").read_text(), re.MULTILINE)  # fmt: skip
    ((broker, backend, script),) = lines
    ran = subprocess.run(
        ["sh", "-ec", f"{broker}; {backend}; exec {sys.executable} {ROOT}/{script}"],
        cwd=running.folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "credits left" in ran.stdout


def test_commands_beside_it_reach_what_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "timetable.toml").write_text(TIMETABLE, "utf-8")
    server = EmbeddedValkey(tmp_path)
    redis_url = server.start()
    broker_url = redis_url.removesuffix("/0") + "/1"
    given = {"FERMATA_REDIS_URL": redis_url, "FERMATA_BROKER_URL": broker_url}
    dev = Dev(tmp_path, **given, FERMATA_TIMETABLE="timetable.toml").start()
    try:
        listed = dev.fermata("schedules", "list", "--json")
        assert [each["name"] for each in json.loads(listed.stdout)] == ["nightly"], listed.stderr
        submitted = dev.fermata("submit", "account.credits", "--wait", "--json")
        assert submitted.returncode == 0, submitted.stderr
        assert (dev.told()["FERMATA_REDIS_URL"], dev.told()["FERMATA_BROKER_URL"]) == (
            redis_url, broker_url,
        )  # fmt: skip
        assert redis_url.split(":")[2].split("@")[0] not in dev.said()
    finally:
        stop(dev.process)
        server.stop()


def test_it_says_that_a_real_provider_is_paid(tmp_path: Path) -> None:
    url = "http://127.0.0.1:1/api/v1"
    real = {"FERMATA_PROVIDER_URL": url, "FERMATA_API_KEY": "sk", "FERMATA_PUBLIC_URL": url}
    dev = Dev(tmp_path, **real)
    terminal = dev.terminal(*COMMAND)
    terminal.expect_exact(
        f"provider   {url} (NOT simulated: what is submitted is paid for)", timeout=START_SECONDS
    )
    terminal.sendintr()
    terminal.expect(pexpect.EOF, timeout=ENOUGH)
    terminal.wait()
    assert "nothing is paid for" not in (terminal.before or "")


def test_a_scenario_is_the_simulators(tmp_path: Path) -> None:
    dev = Dev(tmp_path)
    refused = dev.fermata("dev", "--scenario", "webhook=gone", "--scenario", "nope=1")
    assert refused.returncode == 2
    assert "'gone' is not one of normal, early, duplicate, late, lost" in refused.stderr
    assert "nope: no such field (there are latency_seconds, streaming, webhook" in refused.stderr

    dev.start("--scenario", "webhook=lost")
    try:
        create = ("-p", "custom_mode=false", "-p", "gpt_description_prompt=waltz")
        assert dev.fermata("submit", "sonic.create_music", *create, "--wait").returncode == 0
        books = dev.told()["FERMATA_PROVIDER_URL"].replace("/api/v1", "/_simulator/books")
        (task,) = requests.get(books, timeout=5).json()["tasks"]
        assert task["deliveries"] == []
    finally:
        stop(dev.process)


def test_secrets_are_for_the_owner_alone_and_never_in_the_logs(running: Dev) -> None:
    dev = running
    dev.fermata("submit", "sonic.remaster", "--source", CLIP, "--wait")
    for name in ("dev.env", "signing.key", "valkey.conf"):
        assert (dev.data / name).stat().st_mode & 0o077 == 0
    told = dev.told()
    password = told["FERMATA_REDIS_URL"].split(":")[2].split("@")[0]
    logs = list((dev.data / "logs").glob("*.log"))
    assert len(logs) == 6
    for log in (dev.log, *logs):
        for secret in (told["FERMATA_SIGNING_KEYS"], told["FERMATA_API_KEY"], password):
            assert secret not in log.read_text()


# -- it ends, and nothing is left ---------------------------------------------------------------


def test_ctrl_c_stops_all_and_the_next_start_finds_the_jobs_again(tmp_path: Path) -> None:
    dev = Dev(tmp_path).start(*DESK)
    submitted = dev.fermata("submit", "account.credits", "--wait", "--json")
    assert submitted.returncode == 0, submitted.stderr
    (job,) = json.loads(submitted.stdout)

    os.killpg(dev.process.pid, signal.SIGINT)

    assert dev.process.wait(ENOUGH) == 0
    dev.require_nothing_left(dev.said())
    dev.start()
    try:
        kept = json.loads(dev.fermata("jobs", "--json").stdout)
    finally:
        stop(dev.process)
    assert [each["job_id"] for each in kept] == [job["job_id"]]


def test_a_reader_that_goes_away_ends_it(tmp_path: Path) -> None:
    dev = Dev(tmp_path).start(stdout=subprocess.PIPE)
    assert dev.process.stdout
    with dev.process.stdout as output:
        head = subprocess.Popen(["head", "-5"], stdin=output, stdout=subprocess.PIPE)
    said, _ = head.communicate(timeout=START_SECONDS)
    assert dev.process.wait(ENOUGH) == 0
    dev.require_nothing_left(said.decode())


def test_ctrl_c_ends_it_when_its_output_goes_through_tee(tmp_path: Path) -> None:
    dev = Dev(tmp_path)
    terminal = dev.terminal("sh", "-c", f"{' '.join(COMMAND)} | tee dev.log")
    terminal.expect("Ready after", timeout=START_SECONDS)
    terminal.sendintr()
    terminal.expect(pexpect.EOF, timeout=ENOUGH)
    terminal.wait()
    dev.require_nothing_left(dev.said())


def test_a_closed_terminal_ends_it(tmp_path: Path) -> None:
    dev = Dev(tmp_path)
    terminal = dev.terminal(*COMMAND)
    terminal.expect("Ready after", timeout=START_SECONDS)
    terminal.ptyproc.fileobj.close()
    assert terminal.wait() == 0
    dev.require_nothing_left(terminal.before or "")


def test_a_shell_and_the_system_may_both_say_that_the_terminal_is_closed(dev: Dev) -> None:
    dev.child("celery", "worker").suspend()
    for _ in range(2):
        dev.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "ending" in dev.said(), what="it is heard")
    dev.child("celery", "worker").resume()
    assert dev.process.wait(ENOUGH) == 0
    assert "ready to exit, bye bye" in (dev.data / "logs" / "valkey.log").read_text()
    dev.require_nothing_left(dev.said())


@pytest.mark.parametrize("ignoring", ["exec nohup", "trap '' HUP; exec"])
def test_a_closed_terminal_does_not_end_it_if_hangups_are_ignored(
    ignoring: str, tmp_path: Path
) -> None:
    dev = Dev(tmp_path)
    terminal = dev.terminal("sh", "-c", f"{ignoring} {' '.join(COMMAND)}")
    out = dev.folder / "nohup.out"
    if "nohup" in ignoring:
        wait_until(lambda: out.exists() and "Ready" in out.read_text(), seconds=START_SECONDS)
    else:
        terminal.expect("Ready after", timeout=START_SECONDS)
    terminal.ptyproc.fileobj.close()
    asked = dev.fermata("submit", "account.credits", "--wait")
    assert asked.returncode == 0, asked.stderr
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.wait() == 0
    dev.require_nothing_left("")


def test_what_a_killed_one_started_ends_by_itself(dev: Dev) -> None:
    dev.process.kill()
    dev.process.wait()
    again = Dev(dev.folder).start()
    assert f"process {dev.process.pid} was killed; what it started is ending" in again.said()
    os.kill(again.process.pid, signal.SIGKILL)
    again.process.wait()
    again.require_nothing_left(again.said())
    lost = again.fermata("jobs")
    assert lost.returncode == 3
    assert "unless `fermata dev` runs here" in lost.stderr


def test_a_start_says_what_is_left_of_one_that_was_killed_with_its_keeper(dev: Dev) -> None:
    keeper = dev.child("keeper.py")
    group = str(keeper.pid)
    for each in (keeper, psutil.Process(dev.process.pid)):
        each.suspend()
    keeper.kill()
    dev.process.kill()
    dev.process.wait()
    try:
        refused = dev.fermata("dev", "--port", "0", "--simulator-port", "0")
        assert refused.returncode == 3
        assert f"still runs: end it with kill -9 -- -{group}" in refused.stderr
    finally:
        subprocess.run(["kill", "-9", "--", f"-{group}"], check=True)
    again = Dev(dev.folder).start()
    stop(again.process)
    assert "its jobs go on where they stood" in again.said()


@pytest.mark.parametrize("words", [("celery", "worker"), ("valkey",), ("keeper.py",)])
def test_when_one_process_dies_all_of_it_ends(dev: Dev, words: tuple[str, ...]) -> None:
    dev.child(*words).kill()
    assert dev.process.wait(ENOUGH) == 3
    last = dev.said().splitlines()[-1]
    assert re.match(r"fermata: the \w+ ended by itself \(SIGKILL\)", last)
    dev.require_nothing_left(dev.said())


def test_a_process_that_does_not_hear_is_killed_after_the_grace(dev: Dev) -> None:
    dev.child("celery", "worker").suspend()
    dev.process.terminate()
    assert dev.process.wait(ENOUGH) == 0
    dev.require_nothing_left(dev.said())


def test_a_second_ctrl_c_ends_it_at_once(dev: Dev) -> None:
    dev.child("celery", "worker").suspend()
    dev.process.send_signal(signal.SIGINT)
    wait_until(lambda: "ending" in dev.said(), what="the first is heard")
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(3) == 0
    dev.require_nothing_left(dev.said())


@pytest.mark.parametrize("line", ["starting", "valkey", "simulator"])
def test_ctrl_c_while_it_starts_leaves_nothing(line: str, tmp_path: Path) -> None:
    dev = Dev(tmp_path)
    terminal = dev.terminal(*COMMAND)
    terminal.expect(line, timeout=START_SECONDS)
    terminal.sendintr()
    terminal.expect(pexpect.EOF, timeout=ENOUGH)
    assert terminal.wait() == 0
    assert "Traceback" not in (terminal.before or "")
    dev.require_nothing_left(terminal.before or "")


# -- it refuses to start, in one line -----------------------------------------------------------


def test_a_second_start_says_that_the_first_one_runs(running: Dev) -> None:
    second = running.fermata("dev", "--port", "0", "--simulator-port", "0")
    assert second.returncode == 3
    folder = str(running.data).encode(errors="replace").decode()
    assert f"already runs in {folder} (process {running.process.pid})" in second.stderr


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken, socket.socket() as other:
        for each in (taken, other):
            each.bind(("127.0.0.1", 0))
            each.listen()
        port, desk_port = (str(each.getsockname()[1]) for each in (taken, other))
        refused = Dev(tmp_path).fermata("dev", "--port", port, "--desk-port", desk_port)
    assert refused.returncode == 3
    for option, number in (("--port", port), ("--desk-port", desk_port)):
        assert f"port {number} cannot be used" in refused.stderr
        assert f"choose another by `fermata dev {option} …`" in refused.stderr
    if sys.platform == "linux":
        assert (
            f"port {port} cannot be used (Address already in use, by process {os.getpid()}: "
            in (refused.stderr)
        )
    assert f"port {port} cannot be used (Address already in use" in refused.stderr
    assert refused.stderr.count("\n") == 1


def _no_room() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize("command", ["dev", "demo"])
def test_without_room_for_any_file_it_refuses_in_one_line(command: str, tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "worker", command], cwd=tmp_path, env=ENVIRONMENT,
        capture_output=True, text=True, timeout=60, check=False, preexec_fn=_no_room,
    )  # fmt: skip
    assert refused.returncode == EXIT_FILE
    assert refused.stderr.startswith("fermata: No usable temporary directory found in ")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["dev", "demo --output /proc/demo"])
def test_a_folder_that_cannot_be_written_to_is_one_line(command: str, tmp_path: Path) -> None:
    environment = ENVIRONMENT | {"FERMATA_DATA_DIR": "/proc/data"}
    refused = subprocess.run(
        [sys.executable, "-m", "worker", *command.split()], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert refused.returncode == EXIT_FILE, refused.stderr
    assert refused.stderr.count("\n") == 1
