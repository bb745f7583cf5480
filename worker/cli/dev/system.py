"""``fermata dev``: the whole system on one machine, as real processes under one roof."""

import contextlib
import functools
import os
import shlex
import shutil
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
from worker.cli.dev.screen import Log, Screen, link_of_the_desk, summary
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
)

# The screen is made from log lines, so they must have one form.
_FOR_PEOPLE: Final = {"PYTHONUNBUFFERED": "1", "FERMATA_LOG_FORMAT": "console"}

_SIMULATED: Final = "(nothing is paid for)"
_NOT_SIMULATED: Final = "(NOT simulated: what is submitted is paid for)"

_LOOK_EVERY_SECONDS: Final = 0.1
_ANSWER_SECONDS: Final = 0.5
_SLOW_SECONDS: Final = 30
_FLUSH_SECONDS: Final = 1

_TRY: Final = (
    "submit sonic.create_music -p custom_mode=false -p gpt_description_prompt=waltz --wait"
)


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


@dataclass(frozen=True, slots=True)
class _Process:
    """A process to start, the text to show when it is up, and the port that was opened for it."""

    name: str
    command: Sequence[str]
    place: str
    is_up: Callable[[], bool]
    door: socket.socket | None = None


class _System:
    """One run: it starts the processes, and shows what they do."""

    def __init__(
        self, options: Options, folder: Path, lock: int, screen: Screen, *, simulated: bool
    ) -> None:
        self._options = options
        self._folder = folder
        self._simulated = simulated
        self._began = time.monotonic()
        self._full = False
        self._desk_url = ""
        self._screen = screen
        self._logs: list[Log] = []
        self._lock = lock
        self._crew = Crew(logs=folder / "logs", told=dev_environment(folder), lock=lock)

    def run(self) -> int:
        """Start all processes, show what happens, end all."""
        try:
            crew.hear(self._interrupt)
            premises.write_lock(self._lock, f"{os.getpid()} {self._crew.group}")
            self._watch(self._start())
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

    def _start(self) -> list[_Process]:
        """Start all processes; returns those to wait for, in this order."""
        self._screen.tell(f"fermata dev: starting; its data is in {_shown(self._folder)}")
        # The file stays only if this process and its keeper were both killed.
        if dev_environment(self._folder).exists():
            self._screen.tell("The last one here was killed; its jobs go on where they stood.")
        with contextlib.ExitStack() as stack:
            receiver = stack.enter_context(premises.listen("--port", self._options.port))
            processes = [_receiver(receiver), _worker(self._options.concurrency)]
            told = _given(self._folder)
            if self._options.desk_port is not None:
                door = premises.listen("--desk-port", self._options.desk_port)
                processes.append(_desk(stack.enter_context(door)))
                told["FERMATA_DESK_URL"] = self._desk_url = _url(door)
            if self._simulated:
                port = self._options.simulator_port
                simulator = stack.enter_context(premises.listen("--simulator-port", port))
                processes.insert(0, _simulator(simulator, self._options.scenario))
                told |= _simulated(_url(receiver), _url(simulator))
            else:
                self._show("provider", f"{told['FERMATA_PROVIDER_URL']} {_NOT_SIMULATED}")
            told["FERMATA_REDIS_URL"] = self._redis()
            premises.write_privately(dev_environment(self._folder), _as_file(told))
            for each in (*processes, beat := _beat(self._folder)):
                self._launch(each, {**os.environ, **told, **_FOR_PEOPLE})
        return [*processes, beat]

    def _redis(self) -> str:
        """Return the URL of the Redis that was given, or of a Valkey that is started."""
        for name in ("FERMATA_REDIS_URL", "FERMATA_BROKER_URL"):
            if url := configured(name):
                self._show(name.split("_")[1].lower(), without_password(url))
        if url := configured("FERMATA_REDIS_URL"):
            return url
        start = functools.partial(self._crew.start, "valkey", stage=2)
        url = EmbeddedValkey(self._folder, log=self._crew.log("valkey"), start=start).start()
        place = url.rpartition("@")[2].partition("/")[0]
        self._show("valkey", f"{place} (its URL is in {_shown(dev_environment(self._folder))})")
        return url

    def _launch(self, process: _Process, environment: Mapping[str, str]) -> None:
        descriptors = [process.door.fileno()] if process.door else []
        self._crew.start(
            process.name, process.command, environment=environment, descriptors=descriptors
        )
        self._logs.append(Log(process.name, self._crew.log(process.name)))

    # -- watching ------------------------------------------------------------------------------

    def _watch(self, starting: list[_Process]) -> None:
        """Show what happens, until nobody reads the output any more."""
        slow_at = self._began + _SLOW_SECONDS
        while not self._is_left_alone():
            self._show_news(started=not starting)
            self._require_all()
            self._warn_of_a_full_disk()
            if starting and starting[0].is_up():
                self._show(starting[0].name, starting[0].place)
                starting.pop(0)
                if not starting:
                    self._say_ready()
            elif starting and time.monotonic() > slow_at:
                slow_at = float("inf")
                log = self._crew.log(starting[0].name)
                self._screen.tell(f"Still waiting for the {starting[0].name}; see {_shown(log)}")
            time.sleep(_LOOK_EVERY_SECONDS)

    def _is_left_alone(self) -> bool:
        """Say whether the reader of the output has gone; under nohup, a closed terminal may."""
        stays = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and self._screen.is_terminal
        return self._screen.gone and not stays

    def _show_news(self, *, started: bool) -> None:
        now = time.strftime("%H:%M:%S")
        for log in self._logs:
            for line in log.lines():
                if shown := summary(log.name, line, started=started):
                    self._screen.tell(f"{now} {shown}")

    def _require_all(self) -> None:
        """Raise ConfigError or Unwritable if a process has ended: none should end by itself."""
        fallen = self._crew.fallen()
        if fallen is None:
            return
        self._show_news(started=True)
        name, code = fallen
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        log = self._crew.log(name)
        cause = f": {said}" if log.exists() and (said := Log(name, log).cause()) else ""
        said = f"the {name} ended by itself ({how}){cause}; see {_shown(log)}"
        raise premises.failure(self._folder, said)

    def _warn_of_a_full_disk(self) -> None:
        full = premises.is_full(self._folder)
        if full and not self._full:
            self._screen.tell(
                "The disk is full: nothing is kept, and jobs wait until there is room."
            )
        self._full = full

    def _show(self, name: str, place: str) -> None:
        self._screen.tell(f"  {name:9}  {place}")

    def _say_ready(self) -> None:
        seconds = time.monotonic() - self._began
        logs = _shown(self._crew.log("worker").parent)
        page = ("The page:", "", f"  {url}", "") if (url := self._page()) else ()
        for line in (
            f"Ready after {seconds:.1f} s.",
            *page,
            "Try, in another terminal in this folder:",
            "",
            f"  {_this_command()} {_TRY}",
            "",
            f"Jobs show here as they move; all that the processes say is in {logs}.",
            "Ctrl-C ends it.",
        ):
            self._screen.tell(line)

    def _page(self) -> str:
        """Return the URL of the desk's page; without tokens, the desk has written its own link."""
        if not self._desk_url:
            return ""
        # Without tokens the desk makes one when it starts, and only its log has it.
        said = self._crew.log("desk").read_text("utf-8", "replace")
        links = map(link_of_the_desk, said.splitlines())
        return next(filter(None, links), f"{self._desk_url}/")


def _shown(path: Path) -> str:
    """Write a path relative to this folder, if it is in it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _this_command() -> str:
    """Write the command by which another terminal in this folder runs ``fermata``."""
    script = Path(sys.argv[0]).absolute()
    command = f"{shlex.quote(_shown(Path(sys.executable)))} -m worker"
    if script.name == "fermata":
        on_every_path = "VIRTUAL_ENV" not in os.environ and shutil.which("fermata") == str(script)
        command = "fermata" if on_every_path else shlex.quote(_shown(script))
    given = os.environ.get("FERMATA_DATA_DIR")
    return f"FERMATA_DATA_DIR={shlex.quote(given)} {command}" if given else command


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


def _simulator(door: socket.socket, scenario: Sequence[str]) -> _Process:
    command = _python("simulator", "--fd", str(door.fileno()), "--api-key", SIMULATED_KEY)
    command += _scenario(scenario)
    answers = _answers(f"{_url(door)}/_simulator/healthz")
    return _Process("simulator", command, f"{_url(door)} {_SIMULATED}", answers, door)


def _scenario(fields: Sequence[str]) -> list[str]:
    return [f"--scenario={each}" for each in fields]


def _receiver(door: socket.socket) -> _Process:
    command = _python(
        "gunicorn", "--no-control-socket", "--threads", "8", "--log-level", "warning",
        "--worker-class", "webhook_receiver.server.Worker",
        "--bind", f"fd://{door.fileno()}", "webhook_receiver.wsgi:app",
    )  # fmt: skip
    return _Process("receiver", command, _url(door), _answers(f"{_url(door)}/healthz"), door)


def desk_command(door: socket.socket, *, log_level: str = "info") -> list[str]:
    """Return the command that serves the desk at an open port, as the Procfile's does."""
    return _python(
        "gunicorn", "--no-control-socket", "--workers", "1", "--threads", "128",
        "--graceful-timeout", "20", "--log-level", log_level,
        "--worker-class", "desk.server.Worker",
        "--bind", f"fd://{door.fileno()}", "desk.wsgi:app",
    )  # fmt: skip


def _desk(door: socket.socket) -> _Process:
    command = desk_command(door, log_level="warning")
    return _Process("desk", command, _url(door), _answers(f"{_url(door)}/healthz"), door)


def _worker(concurrency: int) -> _Process:
    # Without mingle: it asks other workers at start, and waits a second for their answers.
    node = f"dev@{socket.gethostname()}"
    command = _python(
        "celery", "--quiet", "-A", "worker.app", "worker", "-l", "INFO", "-n", node,
        "-P", "threads", "-c", str(concurrency), "--without-mingle", "-Q", f"{QUEUE},{SLOW_QUEUE}",
    )  # fmt: skip
    place = "1 thread" if concurrency == 1 else f"{concurrency} threads"
    return _Process("worker", command, place, _is_pinged(node))


def _beat(folder: Path) -> _Process:
    command = _python("celery", "--quiet", "-A", "worker.app", "beat", "-l", "WARNING")
    timetable = configured("FERMATA_TIMETABLE")
    place = f"timetable {timetable}" if timetable else "no FERMATA_TIMETABLE"
    schedule = ["-s", str(folder / "celerybeat-schedule")]
    # Beat answers nobody. If it cannot start it ends, and _require_all notices.
    return _Process("beat", [*command, *schedule], place, lambda: True)


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
