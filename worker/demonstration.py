"""``fermata demo``: the main job, end to end, on a system of its own."""

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
from rich.console import Console
from rich.live import Live

from worker import flow, show, watch
from worker.bootstrap import open_producer, open_store
from worker.core.errors import FermataError, InvalidRequest
from worker.core.flows import Plan
from worker.core.models import JSONObject
from worker.settings import Role, dev_environment, load
from worker.watch import Sight

START_SECONDS: Final = 45
FLOW_SECONDS: Final = 60
STOP_SECONDS: Final = 20

MARK: Final = ".fermata-demo"
"""Says that a folder is a demo's, and may be emptied by the next one."""

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
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)  # leave nothing running then either
    output = output.resolve()
    _make_room(output)
    console.print("[bold]Fermata[/]: starting Valkey, simulator, receiver, worker and beat …")
    began = time.monotonic()
    system = _start(output / "system")
    _forget_settings(output / "system")
    try:
        _wait_until_up(system, output / "system")
        console.print(f"All up after {time.monotonic() - began:.1f} s. One native Celery canvas:")
        console.print("  create_music | remaster | group(stems_full, midi, wav)\n")
        sights = _run_flow(console)
        files = list(_save(sights, output))
    finally:
        system.terminate()
        system.wait(STOP_SECONDS)
    succeeded = all(sight.succeeded for sight in sights)
    _summarise(output, sights, files, time.monotonic() - began)
    _point(console, output, files, succeeded=succeeded)
    return 0 if succeeded else 1


def _make_room(output: Path) -> None:
    try:
        if output.exists() and any(output.iterdir()) and not (output / MARK).is_file():
            raise InvalidRequest(
                f"{output} holds files that are not a demo's: choose another --output"
            )
        shutil.rmtree(output, ignore_errors=True)
        (output / "system").mkdir(parents=True)
        (output / MARK).touch()
    except OSError as error:
        raise InvalidRequest(
            f"{output} cannot be written to ({error.strerror}): choose another --output"
        ) from None


def _start(folder: Path) -> "subprocess.Popen[bytes]":
    """Start ``fermata dev`` untouched by this machine's own settings."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("FERMATA_", "CELERY_"))}
    command = [sys.executable, "-m", "worker", "dev", "--port", "0", "--simulator-port", "0"]
    with (folder / "system.log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=bare | {"FERMATA_DATA_DIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _forget_settings(folder: Path) -> None:
    """Leave this machine's own settings behind, those in a ``.env`` too: they may cost money."""
    for name in [name for name in os.environ if name.startswith(("FERMATA_", "CELERY_"))]:
        del os.environ[name]
    os.chdir(folder)


def _wait_until_up(system: "subprocess.Popen[bytes]", folder: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and system.poll() is None:
        if dev_environment(folder).is_file() and _is_up(folder):
            return
        time.sleep(0.1)
    raise FermataError(f"the system did not come up; see {folder / 'system.log'}")


def _is_up(folder: Path) -> bool:
    lines = dev_environment(folder).read_text("utf-8").splitlines()
    os.environ.update(dict(line.split("=", 1) for line in lines))
    os.environ["FERMATA_DATA_DIR"] = str(folder)
    try:
        healthy = requests.get(f"{os.environ['FERMATA_PUBLIC_URL']}/healthz", timeout=1).ok
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
    store = open_store(settings)
    with Live(console=console, auto_refresh=False) as live:
        for sights in watch.follow(store, enqueued, timeout_seconds=FLOW_SECONDS):
            live.update(show.flow_table(sights), refresh=True)
    return sights


def _save(sights: list[Sight], output: Path) -> Iterator[Path]:
    for sight in sights:
        for name, url in _links(sight.record.result if sight.record else None):
            path = output / f"{sight.step.operation.partition('.')[2]}{name}{Path(url).suffix}"
            path.parent.mkdir(exist_ok=True)
            answer = requests.get(url, timeout=30)
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
            entry | {"at": round(entry["at"] - sight.record.created_at, 3)}
            for entry in sight.record.timeline
        ]
    return described


def _point(console: Console, output: Path, files: list[Path], *, succeeded: bool) -> None:
    console.print(f"\n{len(files)} files are in {output}:", soft_wrap=True)
    for pattern, what in (
        ("stems_full/*.wav", "the stems, which add up to the remaster"),
        ("wav.wav", "the remaster as WAV"),
        ("midi.mid", "its notes as MIDI"),
        ("summary.json", "jobs, states, timings, files"),
        ("system/system.log", "what the processes said"),
    ):
        console.print(f"  {pattern:20} {what}")
    console.print("[green]Every job succeeded.[/]" if succeeded else "[red]A job failed.[/]")
