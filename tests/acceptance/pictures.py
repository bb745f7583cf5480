"""Takes the pictures in ``docs/desk/``: ``make pictures``.

Real processes run flows on the simulated provider; an hour of other jobs is put beside them. So a
picture shows what the desk shows today. A further screen is one line of ``PICTURES``.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from celery import chain, group
from playwright.sync_api import Page
from redis import Redis

from tests.acceptance.browser import Reader, open_browser
from tests.acceptance.test_desk_song import hear, level, position
from tests.integration import populated
from tests.integration.desk import TOKENS
from tests.system import ROOT, System, stop, wait_until
from worker.core.contract import QUEUE, SLOW_QUEUE, task_name
from worker.core.job.models import JobId
from worker.core.job.states import JobState
from worker.store import connection

FOLDER: Final = ROOT / "docs" / "desk"
SONG: Final = "night-train"
HEARD: Final = "night-train-heard"
"""Another song, of which all is archived."""
PICTURES: Final = {
    "now": "/",
    "job": f"/jobs/{SONG}",
    "flow": f"/jobs/{SONG}/flow",
    "song": f"/jobs/{HEARD}/song",
    "batches": "/batches",
    "gate": "/gate",
}
"""Each picture's name, and the screen that it shows."""

_VIEWPORT: Final = {"width": 1280, "height": 300}
"""A picture is as high as its screen has something to show, and no lower than this."""
_SETTINGS: Final[dict[str, Any]] = {
    "FERMATA_DESK_TOKENS": TOKENS,
    "FERMATA_SUBMITS_PER_SECOND": "20",
    "FERMATA_IN_FLIGHT": "50",
}
_WORDS: Final = "[Verse]\nThe last carriage\nhums a fifth\n[Chorus]\nHold the note"


def take(folder: Path) -> None:
    """Take all pictures."""
    with (
        tempfile.TemporaryDirectory(prefix="fermata-pictures-") as place,
        System(Path(place), **_SETTINGS) as system,
        open_browser() as browser,
    ):
        _play(system)
        with connection.connect(system.redis_url) as redis:
            _fill(redis)
        reader = Reader(browser, system.desk(), viewport=_VIEWPORT)
        for name, path in PICTURES.items():
            reader.page.goto(path)
            if name == "song":
                _listen(reader.page)
            reader.page.screenshot(path=folder / f"{name}.png", full_page=True)
        reader.close()


def _fill(redis: "Redis") -> None:
    """Put an hour of other jobs there, batches, and a pause that is over."""
    store, now = populated.Store(redis), time.time()
    store.batch("spring-release", 80, at=now - 300)
    store.batch("demo-tapes", 24, at=now - 1500)
    for number in (4, 8, 12, 16):  # the rest: this one is over
        store.end(JobId(f"demo-tapes-{number}"), at=now - 1400)
    populated.everything(redis)
    store.gate.pause("operator (desk)", now=now - 2400)
    store.gate.resume("operator (desk)", now=now - 2040)


def _play(system: System) -> None:
    """Run a song with four branches: two succeed, one fails, one is under way."""
    worker = system.worker(queues=f"{QUEUE},{SLOW_QUEUE}")
    system.simulator.rule(SONG, latency_seconds=2)
    ran = system.fermata(
        "submit", "sonic.create_music", "--id", SONG, "-p", "custom_mode=true",
        "-p", "title=Night train", "-p", "tags=slow waltz, small band", "-p", f"prompt={_WORDS}",
        "--then", "sonic.stems_full", "--then", "sonic.wav+sonic.midi",
        "--then", "sonic.remaster", "--then", "sonic.remaster+sonic.wav", "--json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    of_branches = _after(json.loads(ran.stdout), SONG)
    stems, wav, failing, held = of_branches
    system.simulator.rule(failing, outcome="fail", latency_seconds=1)
    system.simulator.rule(held, webhook="lost", latency_seconds=600)
    for job_id, state in (
        (SONG, JobState.SUCCEEDED),
        (stems, JobState.SUCCEEDED),
        (wav, JobState.SUCCEEDED),
        (failing, JobState.FAILED),
        (held, JobState.WAITING),
    ):
        wait_until(lambda j=job_id, s=state: system.state(j) == s, seconds=60, what=job_id)
    _archive(system)
    stop(worker)  # it would look after the jobs that are only put there


def _archive(system: System) -> None:
    """Make a song with all that can be heard of it, and archive that."""

    def task(name: str, queue: str = QUEUE, **parameters: Any) -> Any:
        return system.app.signature(task_name(name), kwargs=parameters, queue=queue)

    store = task("archive.store", SLOW_QUEUE)
    song = task("sonic.create_music", custom_mode=False, gpt_description_prompt="a waltz")
    made = [chain(task(f"sonic.{name}"), store) for name in ("stems_full", "midi", "wav")]
    more = [task(f"sonic.{name}") for name in ("lyrics_timeline", "bpm")]
    flow: Any = chain(song.set(task_id=HEARD), group([store, *made, *more], app=system.app))
    flow.apply_async().get(timeout=60)


def _listen(page: Page) -> None:
    """Play the stems for a while, one of them muted."""
    for takes in ("Take 1", "Take 2", "Stems"):
        page.get_by_role("radio", name=takes).check()
        hear(page, lambda: position(page) > 0, "it plays")
    hear(page, lambda: level(page, "Drums") > 0 and position(page) > 1, "drums are heard")
    page.get_by_role("button", name="Mute Drums").click()
    page.evaluate("scrollTo(0, 0)")


def _after(steps: list[dict[str, Any]], job_id: str) -> Iterator[str]:
    return (step["job_id"] for step in steps if step["after"] == job_id)


if __name__ == "__main__":
    take(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
