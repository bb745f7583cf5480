"""The Song screen as a listener uses it: real music of the simulator, archived, in a browser."""

import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from celery import chain, group
from playwright.sync_api import Browser, Page, expect

from tests import servers
from tests.acceptance.browser import NARROW, WIDE, Reader, keep_picture
from tests.integration.desk import TOKENS
from tests.integration.populated import CLIP, Store
from tests.system import Desk, System, stop, wait_until
from worker.core.contract import QUEUE, SLOW_QUEUE, task_name
from worker.store import connection

MAKING_SECONDS: Final = 60
SWITCH: Final = """async name => {
    const at = () => Number(document.querySelector(".seek").value);
    const frame = () => new Promise(requestAnimationFrame);
    const before = at();
    document.querySelector(`[name=listen][value="${name}"]`).click();
    while (document.querySelector(".track.heard").dataset.name !== name) await frame();
    await frame();
    return [before, at(), document.querySelector(".play").textContent === "Pause"];
}"""
"""Chooses a take; returns the position before and after, and whether the song still plays."""
SIDEWAYS: Final = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    servers.program("chromium", "chromium")
    with System(tmp_path_factory.mktemp("song"), FERMATA_DESK_TOKENS=TOKENS) as system:
        yield system


def task(system: System, name: str, queue: str = QUEUE, **parameters: Any) -> Any:
    return system.app.signature(task_name(name), kwargs=parameters, queue=queue)


@pytest.fixture(scope="module")
def song(system: System) -> str:
    """Make a song, its stems and its notes, and archive them; returns the id of the song's job.

    The worker goes home then: it would resume the jobs that a test writes by itself.
    """
    worker = system.worker(queues=f"{QUEUE},{SLOW_QUEUE}")
    store = task(system, "archive.store", SLOW_QUEUE)
    create = task(system, "sonic.create_music", custom_mode=False, gpt_description_prompt="a waltz")
    made = [chain(task(system, f"sonic.{name}"), store) for name in ("stems_full", "midi", "wav")]
    more = [task(system, f"sonic.{name}") for name in ("lyrics_timeline", "bpm")]
    flow = chain(create, group([store, *made, *more], app=system.app), app=system.app)
    results: Any = flow.apply_async()
    results.get(timeout=MAKING_SECONDS)
    stop(worker)
    return str(results.parent.id)


@pytest.fixture
def reader(browser: Browser, desk: Desk) -> Iterator[Reader]:
    reader = Reader(browser, desk)
    yield reader
    reader.close()


def test_a_song_that_no_flow_archived_is_archived_by_a_button(
    system: System, reader: Reader
) -> None:
    worker = system.worker(queues=f"{QUEUE},{SLOW_QUEUE}")
    create = task(system, "sonic.create_music", custom_mode=False, gpt_description_prompt="a polka")
    result = create.apply_async()
    result.get(timeout=MAKING_SECONDS)
    page = reader.page

    def shows(text: str) -> bool:
        page.goto(f"/jobs/{result.id}/song")
        return page.get_by_text(text).is_visible()

    wait_until(lambda: shows("What is not in the archive"))
    page.get_by_role("button", name="Archive the whole song").click()
    expect(page.locator(".said")).to_contain_text("Workers store the files of 1 job now")
    # The page looks until they are there.
    expect(page.get_by_text("4 files of the archive")).to_be_visible(timeout=MAKING_SECONDS * 1000)
    assert page.url.endswith("/song")
    expect(page.get_by_role("button", name="Archive the whole song")).to_have_count(0)
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    stop(worker)


def level(page: Page, stem: str) -> float:
    meter = page.get_by_role("meter", name=f"Level of {stem}", exact=True)
    return float(meter.evaluate("meter => meter.value"))


def position(page: Page) -> float:
    return float(page.get_by_role("slider", name="Position").input_value())


def hear(page: Page, fact: Callable[[], Any], what: str) -> None:
    """Play, again if it has come to its end, until something is heard."""

    def heard() -> Any:
        if (button := page.get_by_role("button", name="Play", exact=True)).count():
            button.click()
        return fact()

    wait_until(heard, what=what)


def pause(page: Page, *, after: float = 0) -> None:
    """Pause the song after some seconds of it; it is short, and may be over before a click."""
    press = """after => {
        const button = document.querySelector(".play");
        const at = document.querySelector(".seek").value;
        const there = button.textContent === "Pause" && at > after;
        if (there) button.click();
        return there;
    }"""
    hear(page, lambda: page.evaluate(press, after), f"{after} seconds have been played")


def test_a_listener_compares_takes_at_the_same_position(reader: Reader, song: str) -> None:
    page = reader.page
    page.goto(f"/jobs/{song}")
    page.get_by_role("link", name="Song").click()
    hear(page, lambda: position(page) > 1, "the song plays")
    assert page.locator(".track.heard").get_attribute("data-name") == "Take 1"
    before, after, goes_on = page.evaluate(SWITCH, "Take 2")
    assert 1 < before <= after or not goes_on
    pause(page, after=2)
    assert page.locator(".track.heard").get_attribute("data-name") == "Take 2"
    rests = position(page)
    page.get_by_role("radio", name="Take 1").check()
    expect(page.locator(".track.heard")).to_have_attribute("data-name", "Take 1")
    assert position(page) == rests > 2
    assert not reader.complaints


def test_a_muted_stem_falls_silent_while_another_one_plays(reader: Reader, song: str) -> None:
    page = reader.page
    page.goto(f"/jobs/{song}/song")
    page.get_by_role("radio", name="Stems").check()
    hear(page, lambda: level(page, "Drums") > 0, "drums are heard")
    page.get_by_role("button", name="Mute Drums").click()
    hear(page, lambda: level(page, "Drums") == 0 < level(page, "Vocals"), "drums are muted")
    page.get_by_role("button", name="Solo Bass", exact=True).click()
    hear(page, lambda: level(page, "Vocals") == 0 < level(page, "Bass"), "bass is alone")
    assert page.locator(".track[data-group=stem]").count() == 12
    assert page.locator(".track.heard").get_attribute("data-name") == "Bass"
    assert not reader.complaints


def test_the_notes_and_the_words_move_with_the_sound(reader: Reader, song: str) -> None:
    page = reader.page
    page.goto(f"/jobs/{song}/song")
    picture, sounding = "document.querySelector('.roll').toDataURL()", page.locator(".sounding")
    expect(page.locator(".lyrics span").first).to_be_visible()
    sung = page.locator(".lyrics").inner_text()
    assert sung.startswith("[Verse]\n")
    assert "\n[Chorus]\n" in sung
    before, heard = page.evaluate(picture), sounding.text_content()
    hear(page, lambda: page.locator(".lyrics .lit").count(), "a word is sung")
    hear(page, lambda: sounding.text_content() != heard, "other notes sound")
    assert page.evaluate(picture) != before
    pause(page)
    page.get_by_role("slider", name="Position").fill("0")
    assert sounding.text_content() == heard


def test_the_song_is_downloaded_whole(reader: Reader, song: str, tmp_path: Path) -> None:
    page = reader.page
    page.goto(f"/jobs/{song}/song")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all").click()
    download.value.save_as(tmp_path / "song.zip")
    with zipfile.ZipFile(tmp_path / "song.zip") as archive:
        assert archive.testzip() is None
        kinds = Counter(name.rpartition(".")[2] for name in archive.namelist())
    # Two takes, twelve stems and the WAV file; the covers of the takes and of the stems; the notes.
    assert kinds == {"wav": 15, "svg": 3, "mid": 1}


@pytest.mark.parametrize(
    ("scheme", "viewport"), [("light", WIDE), ("dark", NARROW)], ids=["light", "dark and narrow"]
)
def test_the_song_is_accessible_and_fits(
    browser: Browser, desk: Desk, song: str, scheme: Any, viewport: Any
) -> None:
    reader = Reader(browser, desk, color_scheme=scheme, viewport=viewport)
    page = reader.page
    page.goto(f"/jobs/{song}/song")
    page.get_by_role("radio", name="Stems").check()
    hear(page, lambda: level(page, "Drums") > 0 and position(page) > 1, "drums are heard")
    page.get_by_role("button", name="Mute Drums").click()
    keep_picture(page, f"song-{scheme}")
    pause(page)
    assert page.evaluate(SIDEWAYS) <= 0
    assert not Axe().run(page).response["violations"]
    assert not reader.complaints
    assert not reader.elsewhere
    reader.close()


def test_words_follow_the_plain_player_of_the_provider_and_a_link_that_has_ended_says_so(
    reader: Reader, system: System
) -> None:
    media = f"{system.simulator.url}/media"
    urls = [f"{media}/{CLIP}.wav", f"{media}/no-longer-there.wav"]
    clips = [
        {"clip_id": f"clip-{n}", "state": "succeeded", "audio_url": url}
        for n, url in enumerate(urls)
    ]
    words = [{"word": f"word-{n}", "start_s": n, "end_s": n + 1} for n in range(9)]
    with connection.connect(system.redis_url) as redis:
        store = Store(redis)
        job = store.accept(store.submit("linked", "sonic.remaster", at=time.time()), at=time.time())
        result = {"clips": clips, "data": {"alignment": words}}
        store.end(job, at=time.time(), result=result)
    page = reader.page
    page.goto("/jobs/linked/song")
    expect(page.get_by_text("They end some day")).to_be_visible()
    expect(page.locator(".transport")).to_be_hidden()
    lit = page.locator(".lyrics .lit")
    page.evaluate("document.querySelector('audio').play()")
    expect(lit).to_have_text("word-2")
    page.evaluate("document.querySelectorAll('audio')[1].play().catch(() => null)")
    expect(page.get_by_text("The provider’s link has ended")).to_be_visible()
    assert page.locator("audio").count() == 1
    assert not reader.complaints


def test_without_javascript_each_track_has_a_player_and_each_file_a_link(
    browser: Browser, desk: Desk, song: str
) -> None:
    reader = Reader(browser, desk, java_script_enabled=False)
    page = reader.page
    page.goto(f"/jobs/{song}/song")
    assert page.locator("audio[controls]").count() == 14
    expect(page.locator("audio").first).to_be_visible()
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_hidden()
    page.get_by_text("19 files", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="midi").click()
    assert download.value.suggested_filename.endswith(".mid")
    reader.close()
