"""``fermata demo``: the main job, end to end, on a system of its own.

It runs ``fermata dev`` as a child process in a folder of its own, with a simulated provider, and
reaches it as a backend would: by the settings that ``fermata dev`` writes for other commands.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import requests
from dotenv import dotenv_values
from rich.console import Console

from worker.cli import show
from worker.cli.dev import crew, premises
from worker.core.batch.flows import Plan
from worker.core.errors import ConfigError, InvalidRequest, Unwritable
from worker.core.job.models import JSONObject
from worker.messages import flow, watch
from worker.messages.watch import Sight
from worker.provider import proxies
from worker.settings import Role, dev_environment, load
from worker.wiring.producer import open_producer
from worker.wiring.servers import open_readings

START_SECONDS: Final = 45
FLOW_SECONDS: Final = 60
STOP_SECONDS: Final = 20

MARK: Final = ".fermata-demo"
"""A file that marks the folder as a demo's: the next demo may empty it."""

# The documented request (provider-api.md §3.1), on the first clip of a new song.
_CREATE: Final = {
    "custom_mode": False,
    "mv": "chirp-v5",
    "gpt_description_prompt": "a slow waltz for a small band, held notes at the end",
}
_REMASTER: Final = {"mv": "chirp-v5", "variation_category": "subtle"}
_FOLLOW_UPS: Final = ("sonic.stems_full", "sonic.midi", "sonic.wav")


def run(output: Path, console: Console) -> int:
    """Run the demo; returns 0 when every job succeeded and every file is there."""
    crew.hear(signal.default_int_handler)  # leave nothing running on SIGTERM and SIGHUP either
    premises.require_temporary_folder()
    output = output.resolve()
    began = time.monotonic()
    with _writing(output), _room(output) as lock, _running(output / "system", lock) as system:
        console.print("[bold]Fermata[/]: starting Valkey, simulator, receiver, worker and beat …")
        _forget_settings(output / "system")
        _wait_until_up(system, output / "system")
        console.print(f"All up after {time.monotonic() - began:.1f} s. One native Celery canvas:")
        console.print("  create_music | remaster | group(stems_full, midi, wav)\n")
        sights = _run_flow(console)
        files = list(_save(sights, output))
        _summarise(output, sights, files, time.monotonic() - began)
    succeeded = all(sight.succeeded for sight in sights)
    _point(console, output, files, succeeded=succeeded)
    return 0 if succeeded else 1


@contextlib.contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Turn an error of the disk into a line that names the folder.

    Raises Unwritable; ConfigError if a file could not be fetched.
    """
    try:
        yield
    except requests.RequestException as error:  # an OSError too
        raise ConfigError(f"the music cannot be fetched: {error}") from None
    except OSError as error:
        where = error.filename or output
        raise Unwritable(f"{where}: {error.strerror}; choose another --output") from None


@contextlib.contextmanager
def _room(output: Path) -> Iterator[int]:
    """Empty the folder, and lock it; yields the lock's descriptor.

    Raises InvalidRequest if other files are in it, or another demo.
    """
    if output.exists() and any(output.iterdir()) and not (output / MARK).is_file():
        raise InvalidRequest(f"{output} holds files that are not a demo's: choose another --output")
    output.mkdir(parents=True, exist_ok=True)
    with (output / MARK).open("ab") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidRequest(
                f"another demo runs in {output}: choose another --output"
            ) from None
        for each in output.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            elif each.name != MARK:
                each.unlink()
        (output / "system").mkdir()
        yield mark.fileno()


@contextlib.contextmanager
def _running(folder: Path, lock: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run ``fermata dev`` without this machine's own settings.

    ``fermata dev`` ends when nobody reads its output any more. So a demo that is killed leaves
    nothing running, and the lock, which the child inherits, is held until the child has ended.
    """
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("FERMATA_", "CELERY_"))}
    command = [sys.executable, "-m", "worker", "dev", "--no-desk"]
    command += ["--port", "0", "--simulator-port", "0"]
    with (
        (folder / "system.log").open("wb") as log,
        subprocess.Popen(
            command,
            cwd=folder,
            env=bare | {"FERMATA_DATA_DIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            pass_fds=(lock,),
        ) as system,
    ):
        try:
            yield system
        finally:
            system.terminate()
            system.wait(STOP_SECONDS)


def _forget_settings(folder: Path) -> None:
    """Drop this machine's own settings, those of a ``.env`` too: with them, jobs may cost money."""
    for name in [name for name in os.environ if name.startswith(("FERMATA_", "CELERY_"))]:
        del os.environ[name]
    os.chdir(folder)  # ``load`` reads the .env of the current folder; this one has none


def _wait_until_up(system: "subprocess.Popen[bytes]", folder: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and system.poll() is None:
        if dev_environment(folder).is_file() and _is_up(folder):
            return
        time.sleep(0.1)
    said = (folder / "system.log").read_text("utf-8", "replace").strip().removeprefix("fermata: ")
    raise premises.failure(folder, f"the system did not come up: {said or folder / 'logs'}")


def _is_up(folder: Path) -> bool:
    told = dotenv_values(dev_environment(folder), encoding="utf-8")
    os.environ.update({name: value for name, value in told.items() if value})
    os.environ["FERMATA_DATA_DIR"] = str(folder)
    try:
        url = f"{os.environ['FERMATA_PUBLIC_URL']}/healthz"
        healthy = requests.get(url, proxies=proxies(url), timeout=1).ok
    except (KeyError, requests.RequestException):
        return False
    producer = open_producer(load(Role.CLIENT))
    return healthy and bool(producer.control.ping(timeout=0.5))


def _run_flow(console: Console) -> list[Sight]:
    settings = load(Role.CLIENT)
    sights: list[Sight] = []
    branches = tuple((name,) for name in _FOLLOW_UPS)
    plan = Plan(
        "sonic.create_music", _CREATE, then=("sonic.remaster", _REMASTER), branches=branches
    )
    enqueued = flow.enqueue(open_producer(settings), plan)
    readings = open_readings(settings)
    with show.live(console) as live:
        for sights in watch.follow(readings, enqueued, timeout_seconds=FLOW_SECONDS):
            live.update(show.flow_table(sights), refresh=True)
    if not all(sight.ended for sight in sights):
        late = f"the jobs did not end within {FLOW_SECONDS} s; see {settings.data_dir / 'logs'}"
        raise premises.failure(settings.data_dir, late)
    return sights


def _save(sights: list[Sight], output: Path) -> Iterator[Path]:
    for sight in sights:
        for name, url in _links(sight.record.result if sight.record else None):
            path = output / f"{sight.step.operation.partition('.')[2]}{name}{Path(url).suffix}"
            path.parent.mkdir(exist_ok=True)
            answer = requests.get(url, proxies=proxies(url), timeout=30)
            answer.raise_for_status()
            path.write_bytes(answer.content)
            yield path


def _links(result: JSONObject | None) -> Iterator[tuple[str, str]]:
    """Name the files of a result: one for each clip, or the one that its data links to."""
    if result is None:
        return
    for position, clip in enumerate(result["clips"], start=1):
        if clip.get("audio_url"):
            part = clip.get("stem_type") or "clip"
            yield f"/{position:02}-{part.lower().replace(' ', '-')}", clip["audio_url"]
    for key in ("wav_url", "midi_url"):
        if url := result["data"].get(key):
            yield "", url


def _summarise(output: Path, sights: list[Sight], files: list[Path], seconds: float) -> None:
    summary: dict[str, Any] = {
        "succeeded": all(sight.succeeded for sight in sights),
        "seconds": round(seconds, 1),
        "jobs": [_describe(sight) for sight in sights],
        "files": [str(path.relative_to(output)) for path in files],
    }
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", "utf-8")


def _describe(sight: Sight) -> JSONObject:
    described: JSONObject = {"operation": sight.step.operation, "state": sight.state}
    described |= {"job_id": sight.step.job_id, "after": sight.step.after}
    if sight.record:
        described["timeline"] = [
            entry | {"at": round(max(0.0, entry["at"] - sight.record.created_at), 3)}
            for entry in sight.record.timeline
        ]
    return described


def _point(console: Console, output: Path, files: list[Path], *, succeeded: bool) -> None:
    console.print(f"\n{len(files)} files are in {output}:", soft_wrap=True)
    for pattern, what in (
        ("create_music/*", "the takes of the new song"),
        ("remaster/*", "the remaster of its first take"),
        ("stems_full/*.wav", "the stems, which add up to the remaster"),
        ("wav.wav", "the remaster as WAV"),
        ("midi.mid", "its notes as MIDI"),
        ("summary.json", "jobs, states, timings, files"),
        ("system/logs", "what the processes said"),
    ):
        console.print(f"  {pattern:20} {what}")
    console.print("[green]Every job succeeded.[/]" if succeeded else "[red]A job failed.[/]")
