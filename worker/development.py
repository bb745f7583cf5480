"""``fermata dev``: the whole system on one machine, as real processes under one roof."""

import contextlib
import fcntl
import os
import secrets
import shlex
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from honcho.manager import Manager

from worker.core.contract import QUEUE, SLOW_QUEUE
from worker.core.errors import ConfigError, InvalidRequest
from worker.embedded import EmbeddedValkey, free_port
from worker.settings import check, configured, dev_environment, is_loopback

SIMULATED_KEY: Final = "sk_simulated"

# The simulator finishes in seconds, so asking pays early.
_PATIENCE: Final = {
    "FERMATA_POLL_FIRST_SECONDS": "3",
    "FERMATA_POLL_EVERY_SECONDS": "1",
    "FERMATA_SWEEP_EVERY_SECONDS": "0.5",
}


class _Manager(Manager):  # type: ignore[misc]
    """Honcho's own, which may be told to end while it is still starting."""

    def terminate(self) -> None:
        # It can end only processes that have told it their ids: until all have, it is told again.
        if self._all_started():
            super().terminate()
        else:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()


def run(port: int, simulator_port: int, concurrency: int) -> int:
    """Run until Ctrl-C, or until one process dies; returns the exit code.

    Raises ConfigError where a setting is wrong, its folder cannot be written to, it already runs
    here, or a port is in use; InvalidRequest where both ports are one.
    """
    _end_cleanly()
    check()
    _refuse_mixture()
    folder = _folder()
    with _alone(folder), contextlib.ExitStack() as stack:
        simulated = not configured("FERMATA_PROVIDER_URL")
        if simulated and port and port == simulator_port:
            raise InvalidRequest(f"--port and --simulator-port are both {port}: choose two")
        port = _free("--port", port)
        simulator_port = _free("--simulator-port", simulator_port) if simulated else 0
        told = _environment(folder, port, simulator_port if simulated else None)
        manager = _Manager()
        if not configured("FERMATA_REDIS_URL"):
            valkey = EmbeddedValkey(folder)
            stack.callback(valkey.stop)
            told["FERMATA_REDIS_URL"] = valkey.start()
            _end_with(valkey, manager)
        _tell(folder, told)
        stack.callback(dev_environment(folder).unlink, missing_ok=True)
        environment = {**os.environ, **told, "PYTHONUNBUFFERED": "1"}
        for name, command in _commands(port, simulator_port, concurrency, folder).items():
            manager.add_process(name, f"exec {shlex.join(command)}", env=environment)
        where = told.get("FERMATA_PROVIDER_URL") or configured("FERMATA_PROVIDER_URL")
        what = "simulated" if simulated else "NOT simulated: what is submitted is paid for"
        print(f"fermata dev: the provider is {where} ({what})", flush=True)  # noqa: T201
        manager.loop()
        # Ctrl-C is how it is meant to end.
        return 0 if manager.returncode in {130, 143} else manager.returncode or 1


def _end_cleanly() -> None:
    """End as by Ctrl-C where the terminal goes away, or a TERM comes before honcho waits for it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def _refuse_mixture() -> None:
    """Keep a simulated system away from a real one: it would answer jobs that were paid for."""
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


def _folder() -> Path:
    """Make the folder for the data; one that keeps nothing is found out before anything starts."""
    folder = Path(configured("FERMATA_DATA_DIR") or ".fermata").resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ConfigError(
            f"data cannot be kept in {folder} ({error.strerror}): set FERMATA_DATA_DIR to a "
            "folder that can be written to"
        ) from None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ConfigError(
                f"fermata dev already runs in {folder} (process {lock.read() or 'unknown'}): "
                "stop it, or set FERMATA_DATA_DIR"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _free(option: str, port: int) -> int:
    if port == 0:
        return free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                f"port {port} cannot be used ({error.strerror}): choose {option}"
            ) from None
    return port


def _environment(folder: Path, port: int, simulator_port: int | None) -> dict[str, str]:
    told = {"FERMATA_SIGNING_KEYS": configured("FERMATA_SIGNING_KEYS") or _signing_key(folder)}
    if simulator_port is None:
        # A real provider reaches us by the address that the user gave.
        return told
    return told | {
        "FERMATA_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "FERMATA_PROVIDER_URL": f"http://127.0.0.1:{simulator_port}/api/v1",
        "FERMATA_API_KEY": SIMULATED_KEY,
        **_PATIENCE,
    }


def _signing_key(folder: Path) -> str:
    """Keep one key for the folder: jobs that were parked yesterday are still called back."""
    path = folder / "signing.key"
    if not path.exists():
        whole = path.with_suffix(".new")
        whole.touch(mode=0o600)
        whole.write_text(secrets.token_urlsafe(32), "utf-8")
        whole.rename(path)
    return path.read_text("utf-8")


def _tell(folder: Path, told: Mapping[str, str]) -> None:
    """Write what other commands need to find this system, for the owner's eyes only."""
    path = dev_environment(folder)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    lines = "".join(f"{name}={value}\n" for name, value in sorted(told.items()))
    path.write_text(lines, "utf-8")


def _end_with(valkey: EmbeddedValkey, manager: Manager) -> None:
    watch = threading.Thread(target=valkey.wait, args=(manager.terminate,), daemon=True)
    watch.start()


def _commands(
    port: int, simulator_port: int, concurrency: int, folder: Path
) -> dict[str, list[str]]:
    python = [sys.executable, "-m"]
    celery = [*python, "celery", "-A", "worker.app"]
    commands = {
        "receiver": [
            *python, "gunicorn", "--no-control-socket", "--threads", "8", "--log-level", "warning",
            "--worker-class", "webhook_receiver.server.Worker",
            "--bind", f"127.0.0.1:{port}", "webhook_receiver.wsgi:app",
        ],
        "worker": [
            *celery, "worker", "-l", "INFO", "-c", str(concurrency), "--without-mingle",
            "-Q", f"{QUEUE},{SLOW_QUEUE}",
        ],
        "beat": [*celery, "beat", "-l", "WARNING", "-s", str(folder / "celerybeat-schedule")],
    }  # fmt: skip
    if simulator_port:
        commands["simulator"] = [
            *python, "simulator", "--port", str(simulator_port), "--api-key", SIMULATED_KEY,
        ]  # fmt: skip
    return commands
