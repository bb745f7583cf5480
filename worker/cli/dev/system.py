"""``fermata dev``: the whole system on one machine, as real processes under one roof."""

import contextlib
import functools
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import requests

from worker.cli.dev import crew, premises
from worker.cli.dev.crew import Crew
from worker.cli.dev.screen import Screen, shown
from worker.cli.dev.watch import Process, Watch
from worker.core.broker_url import without_password
from worker.core.contract import QUEUE, SLOW_QUEUE
from worker.core.errors import ConfigError, InvalidRequest, Unwritable
from worker.doctor import shadows
from worker.settings import Role, check, configured, dev_environment, is_loopback, load
from worker.store.embedded import EmbeddedValkey
from worker.wiring.producer import open_producer, worker_answers

SIMULATED_KEY: Final = "sk_simulated"

# The simulator finishes a song in seconds, so early polls find it.
_PATIENCE: Final = {
    "FERMATA_POLL_FIRST_SECONDS": "3",
    "FERMATA_POLL_EVERY_SECONDS": "1",
    "FERMATA_SWEEP_EVERY_SECONDS": "0.5",
}

# The settings that other commands need to reach the same system. A real provider's key is left out.
_SHARED: Final = (
    "FERMATA_REDIS_URL",
    "FERMATA_BROKER_URL",
    "FERMATA_RESULT_BACKEND",
    "FERMATA_PROVIDER_URL",
    "FERMATA_PUBLIC_URL",
    "FERMATA_TIMETABLE",
)

# The screen is made from log lines, so they must have one form.
_FOR_PEOPLE: Final = {"PYTHONUNBUFFERED": "1", "FERMATA_LOG_FORMAT": "console"}

_SIMULATED: Final = "(nothing is paid for)"
_NOT_SIMULATED: Final = "(NOT simulated: what is submitted is paid for)"

_ANSWER_SECONDS: Final = 0.5
_FLUSH_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class Options:
    """The options of ``fermata dev``; port 0 is any free port."""

    port: int
    simulator_port: int
    desk_port: int | None
    """None: without the desk."""
    concurrency: int
    scenario: Sequence[str] = ()


def run(options: Options) -> int:
    """Run until Ctrl-C; returns the exit code.

    Raises ConfigError if a setting is wrong, if ``fermata dev`` already runs here, if a port is in
    use, or if one of the processes ends by itself; Unwritable if a folder cannot be written to, or
    its disk is full; InvalidRequest if two ports are the same, or the simulator knows no such
    scenario.
    """
    crew.hear(signal.default_int_handler)
    check()
    shadows.require_none()
    _refuse_mixture()
    simulated = not configured("FERMATA_PROVIDER_URL")
    _check_options(options, simulated=simulated)
    premises.require_temporary_folder()
    folder = premises.data_folder(Path(configured("FERMATA_DATA_DIR") or ".fermata"))
    try:
        screen = Screen(sys.stdout)
        with premises.alone(folder, screen.tell) as lock:
            return _System(options, folder, lock, screen, simulated=simulated).run()
    except OSError as error:
        raise Unwritable(f"{error.filename or folder}: {error.strerror}") from None


def _refuse_mixture() -> None:
    """Refuse to mix a simulated system with a real one: it would answer jobs that were paid for."""
    redis_url = configured("FERMATA_REDIS_URL")
    if redis_url:
        if not configured("FERMATA_PROVIDER_URL") and not is_loopback(redis_url):
            raise ConfigError(
                "FERMATA_REDIS_URL is another machine's: fermata dev would answer its jobs from a "
                "simulator. Unset it, or set FERMATA_PROVIDER_URL as well."
            )
        return
    for name in ("FERMATA_BROKER_URL", "FERMATA_RESULT_BACKEND"):
        if configured(name):
            raise ConfigError(
                f"{name} is set and FERMATA_REDIS_URL is not: fermata dev would serve a broker "
                "that is not its own. Set both, or neither."
            )


def _check_options(options: Options, *, simulated: bool) -> None:
    _require_different(
        {
            "--port": options.port,
            "--desk-port": options.desk_port,
            "--simulator-port": options.simulator_port if simulated else None,
        }
    )
    if options.scenario and not simulated:
        raise InvalidRequest("--scenario is the simulator's: unset FERMATA_PROVIDER_URL")
    if options.scenario:
        command = _python("simulator", "--check", *_scenario(options.scenario))
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        if checked.returncode:
            raise InvalidRequest(checked.stderr.strip().rpartition("Error: ")[2])


def _require_different(ports: Mapping[str, int | None]) -> None:
    taken: dict[int, str] = {}
    for option, port in ports.items():
        if port and taken.setdefault(port, option) != option:
            raise InvalidRequest(f"{taken[port]} and {option} are both {port}: choose two")


class _System:
    """One run: it starts the processes, has them watched, and ends them."""

    def __init__(
        self, options: Options, folder: Path, lock: int, screen: Screen, *, simulated: bool
    ) -> None:
        self._options = options
        self._folder = folder
        self._simulated = simulated
        self._desk_url = ""
        self._screen = screen
        self._lock = lock
        self._crew = Crew(logs=folder / "logs", told=dev_environment(folder), lock=lock)

    def run(self) -> int:
        """Start all processes, show what happens, end all."""
        try:
            crew.hear(self._interrupt)
            premises.write_lock(self._lock, f"{os.getpid()} {self._crew.group}")
            began, processes = time.monotonic(), self._start()
            watch = Watch(
                self._crew, self._screen, self._folder, processes, desk_url=self._desk_url
            )
            watch.run(began)
        except KeyboardInterrupt:
            self._screen.tell("fermata dev: ending; Ctrl-C again ends it at once")
        finally:
            crew.hear_again(lambda *_: self._crew.kill())
            self._crew.end()
            self._screen.close(_FLUSH_SECONDS)
        return 0

    def _interrupt(self, *_: object) -> None:
        crew.hear_again(lambda *_: self._crew.kill())
        raise KeyboardInterrupt

    def _start(self) -> list[Process]:
        """Start all processes; returns those to wait for, in this order."""
        self._screen.tell(f"fermata dev: starting; its data is in {shown(self._folder)}")
        # The file stays only if this process and its keeper were both killed.
        if dev_environment(self._folder).exists():
            self._screen.tell("The last one here was killed; its jobs go on where they stood.")
        with contextlib.ExitStack() as stack:
            doors = premises.listen_at(stack, self._ports())
            receiver = doors["--port"]
            processes = [_receiver(receiver), _worker(self._options.concurrency)]
            told = _given(self._folder)
            if door := doors.get("--desk-port"):
                processes.append(_desk(door))
                told["FERMATA_DESK_URL"] = self._desk_url = _url(door)
            if simulator := doors.get("--simulator-port"):
                processes.insert(0, _simulator(simulator, self._options.scenario))
                told |= _simulated(_url(receiver), _url(simulator))
            else:
                self._screen.show("provider", f"{told['FERMATA_PROVIDER_URL']} {_NOT_SIMULATED}")
            told["FERMATA_REDIS_URL"] = self._redis()
            premises.write_privately(dev_environment(self._folder), _as_file(told))
            for each in (*processes, beat := _beat(self._folder)):
                self._launch(each, {**os.environ, **told, **_FOR_PEOPLE})
        return [*processes, beat]

    def _ports(self) -> dict[str, int]:
        """Return the ports to open, by their options."""
        ports = {"--port": self._options.port}
        if self._options.desk_port is not None:
            ports["--desk-port"] = self._options.desk_port
        if self._simulated:
            ports["--simulator-port"] = self._options.simulator_port
        return ports

    def _redis(self) -> str:
        """Return the URL of the Redis that was given, or of a Valkey that is started."""
        for name in ("FERMATA_REDIS_URL", "FERMATA_BROKER_URL"):
            if url := configured(name):
                self._screen.show(name.split("_")[1].lower(), without_password(url))
        if url := configured("FERMATA_REDIS_URL"):
            return url
        start = functools.partial(self._crew.start, "valkey", stage=2)
        url = EmbeddedValkey(self._folder, log=self._crew.log("valkey"), start=start).start()
        place = url.rpartition("@")[2].partition("/")[0]
        self._screen.show(
            "valkey", f"{place} (its URL is in {shown(dev_environment(self._folder))})"
        )
        return url

    def _launch(self, process: Process, environment: Mapping[str, str]) -> None:
        descriptors = [process.door.fileno()] if process.door else []
        self._crew.start(
            process.name, process.command, environment=environment, descriptors=descriptors
        )


def _given(folder: Path) -> dict[str, str]:
    keys = configured("FERMATA_SIGNING_KEYS") or premises.signing_key(folder)
    given = {name: configured(name) for name in _SHARED if configured(name)}
    return given | {"FERMATA_SIGNING_KEYS": keys}


def _simulated(receiver_url: str, simulator_url: str) -> dict[str, str]:
    return {
        "FERMATA_PUBLIC_URL": receiver_url,
        "FERMATA_PROVIDER_URL": f"{simulator_url}/api/v1",
        "FERMATA_API_KEY": SIMULATED_KEY,
        **_PATIENCE,
    }


def _as_file(told: Mapping[str, str]) -> str:
    """Write settings so that a shell and dotenv read the same."""
    return "".join(f"{name}={shlex.quote(_alike(value))}\n" for name, value in sorted(told.items()))


def _alike(value: str) -> str:
    """Escape characters that dotenv cannot read, or would replace, between a shell's quotes."""
    if "://" not in value:
        return value
    return value.replace("'", "%27").replace("${", "%24{")


def _url(door: socket.socket) -> str:
    return f"http://127.0.0.1:{door.getsockname()[1]}"


# -- the processes -----------------------------------------------------------------------------


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def _simulator(door: socket.socket, scenario: Sequence[str]) -> Process:
    command = _python("simulator", "--fd", str(door.fileno()), "--api-key", SIMULATED_KEY)
    command += _scenario(scenario)
    answers = _answers(f"{_url(door)}/_simulator/healthz")
    return Process("simulator", command, f"{_url(door)} {_SIMULATED}", answers, door)


def _scenario(fields: Sequence[str]) -> list[str]:
    return [f"--scenario={each}" for each in fields]


def _receiver(door: socket.socket) -> Process:
    command = _python(
        "gunicorn", "--no-control-socket", "--threads", "8", "--log-level", "warning",
        "--worker-class", "webhook_receiver.server.Worker",
        "--bind", f"fd://{door.fileno()}", "webhook_receiver.wsgi:app",
    )  # fmt: skip
    return Process("receiver", command, _url(door), _answers(f"{_url(door)}/healthz"), door)


def desk_command(door: socket.socket, *, log_level: str = "info") -> list[str]:
    """Return the command that serves the desk at an open port, as the Procfile's does."""
    return _python(
        "gunicorn", "--no-control-socket", "--workers", "1", "--threads", "128",
        "--graceful-timeout", "20", "--log-level", log_level,
        "--worker-class", "desk.server.Worker",
        "--bind", f"fd://{door.fileno()}", "desk.wsgi:app",
    )  # fmt: skip


def _desk(door: socket.socket) -> Process:
    command = desk_command(door, log_level="warning")
    return Process("desk", command, _url(door), _answers(f"{_url(door)}/healthz"), door)


def _worker(concurrency: int) -> Process:
    # Without mingle: it asks other workers at start, and waits a second for their answers.
    node = f"dev@{socket.gethostname()}"
    command = _python(
        "celery", "--quiet", "-A", "worker.app", "worker", "-l", "INFO", "-n", node,
        "-P", "threads", "-c", str(concurrency), "--without-mingle", "-Q", f"{QUEUE},{SLOW_QUEUE}",
    )  # fmt: skip
    place = "1 thread" if concurrency == 1 else f"{concurrency} threads"
    return Process("worker", command, place, _is_pinged(node))


def _beat(folder: Path) -> Process:
    command = _python("celery", "--quiet", "-A", "worker.app", "beat", "-l", "WARNING")
    timetable = configured("FERMATA_TIMETABLE")
    place = f"timetable {timetable}" if timetable else "no FERMATA_TIMETABLE"
    schedule = ["-s", str(folder / "celerybeat-schedule")]
    # Beat answers nobody. If it cannot start it ends, and _require_all notices.
    return Process("beat", [*command, *schedule], place, lambda: True)


def _answers(url: str) -> Callable[[], bool]:
    session = requests.Session()
    session.trust_env = False  # no proxy leads to this machine

    def answers() -> bool:
        try:
            return session.get(url, timeout=_ANSWER_SECONDS).ok
        except requests.RequestException:
            return False

    return answers


def _is_pinged(node: str) -> Callable[[], bool]:
    producer = functools.cache(lambda: open_producer(load(Role.CLIENT)))
    return lambda: worker_answers(producer(), node, seconds=_ANSWER_SECONDS)
