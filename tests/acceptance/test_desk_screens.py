"""The desk as a person uses it: a browser before the real processes.

All screens are checked for accessibility, for requests to anywhere else, and for messages of the
browser, such as a violation of the content security policy. ``DESK_SCREENSHOTS=folder`` puts a
picture of each screen there.
"""

import re
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from redis import Redis

from tests import servers
from tests.acceptance.browser import NARROW, WIDE, Reader, keep_picture
from tests.integration import populated
from tests.integration.desk import TOKENS
from tests.integration.populated import Store
from tests.system import Desk, System, busyness, stop, wait_until
from tests.unit import recorded
from worker.core import keys
from worker.core.job.canvas import Step
from worker.core.job.lanes import Lane, Priority
from worker.core.job.models import JobId
from worker.core.job.states import JobState
from worker.core.overview import Filter
from worker.store import connection
from worker.store.lists import Lists

SCREENS: Final = {
    "now": "/",
    "jobs": "/jobs",
    "job": "/jobs/song-001",
    "song-of-the-provider": "/jobs/song-001/song",
    "waiting": "/jobs/wait-1",
    "failed": "/jobs/flow-lyrics",
    "flow": "/jobs/flow-1/flow",
    "wide-flow": "/jobs/wide/flow",
    "gate": "/gate",
    "deliveries": "/deliveries",
    "delivery": "/deliveries/{entry}",
    "batches": "/batches",
    "batch": "/batches/album-7",
    "retry": "/batches/album-7/retry",
    "manifest": "/manifest",
    "schedules": "/schedules",
    "try": "/try",
    "form": "/try/sonic.create_music",
    "cancel": "/cancel?state=held",
    "search": "/search?q=nothing",
    "missing": "/jobs/none",
}
PAUSED: Final = {"paused-now": "/", "paused-gate": "/gate"}
"""What is looked at once something is paused."""
TIMETABLE: Final = """
[[schedule]]
name = "nightly"
cron = "30 2 * * 1-5"
timezone = "Europe/Berlin"
manifest = "songs.csv"

[[schedule]]
name = "monthly-report"
cron = "0 8 1 * *"
manifest = "songs.csv"
overlap = "queue"
"""
SONGS: Final = "operation,description\n" + "".join(
    f"lyrics.generate,the sea at {hour} o'clock\n" for hour in range(4)
)
MANY: Final = 20_000
"""Too many to cancel within a slice."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    servers.program("chromium", "chromium")
    settings: dict[str, Any] = {
        "FERMATA_DESK_TOKENS": TOKENS,
        "FERMATA_SUBMITS_PER_SECOND": "2",
        "FERMATA_IN_FLIGHT": "50",
    }
    folder = tmp_path_factory.mktemp("desk")
    (folder / "timetable.toml").write_text(TIMETABLE)
    (folder / "songs.csv").write_text(SONGS)
    settings["FERMATA_TIMETABLE"] = str(folder / "timetable.toml")
    with System(folder, **settings) as system:
        yield system


@pytest.fixture
def redis(system: System) -> "Iterator[Redis]":
    client = connection.connect(system.redis_url)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def store(redis: "Redis") -> Store:
    return Store(redis)


@pytest.fixture
def reader(browser: Browser, desk: Desk, redis: "Redis") -> Iterator[Reader]:
    reader = Reader(browser, desk)
    yield reader
    reader.close()


def test_an_operator_finds_the_one_failed_job_among_2000_and_retries_its_flow(
    reader: Reader, store: Store
) -> None:
    now = time.time()
    for number in range(1998):
        store.settle(f"job-{number:04}", at=now - 3000 + number)
    store.flow("song", [Step(JobId("job-lost"), "sonic.wav", JobId("song"))], at=now - 2600)
    lost = store.submit("job-lost", at=now - 2500, after="song", first="song")
    store.fail(store.accept(lost, at=now - 2499), at=now - 2400, message="It was refused.")
    page = reader.page
    page.goto("/")
    page.get_by_role("link", name="failed").click()
    expect(page.get_by_text("1 job", exact=True)).to_be_visible()
    page.locator("#j-job-lost").get_by_role("link").click()
    expect(page.get_by_text("It was refused.")).to_be_visible()
    page.get_by_role("link", name="see the drawing").click()
    page.get_by_role("button", name="Retry what failed, and let the rest follow").click()
    expect(page.get_by_text("1 of 1 failed job run again.")).to_be_visible()
    page.get_by_role("link", name="sonic.wav: queued").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("queued")
    assert not reader.complaints


@pytest.fixture
def worker(system: System, redis: "Redis") -> Iterator[None]:
    """A worker for one test: on the others' jobs, nobody works but the test."""
    process = system.worker()
    yield
    stop(process)


@pytest.mark.usefixtures("worker")
def test_an_operator_mends_a_manifest_submits_it_and_watches_it_end(reader: Reader) -> None:
    page = reader.page
    page.goto("/batches")
    page.get_by_role("link", name="Submit a manifest").click()
    wrong = f"{SONGS}lyrics.rite,x\n".encode()
    page.get_by_label("File", exact=True).set_input_files(
        files={"name": "sea.csv", "mimeType": "text/csv", "buffer": wrong}
    )
    page.get_by_role("button", name="Check it").click()
    expect(page.get_by_text("1 mistake; nothing was submitted.")).to_be_visible()
    expect(page.get_by_role("row", name="6 operation")).to_contain_text("there is no operation")
    text = page.get_by_label("Or its text")
    text.fill(text.input_value().replace("lyrics.rite,x", "lyrics.generate,the sea at noon"))
    page.get_by_role("button", name="Check it").click()
    page.get_by_role("button", name="Submit 5 rows for 10 credits").click()
    expect(page.get_by_text("5 rows submitted.")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text(
        re.compile("sea over"), timeout=60_000 * busyness()
    )
    expect(page.get_by_text("10 spent of 10 expected")).to_be_visible()
    assert not reader.complaints


@pytest.mark.usefixtures("worker")
def test_a_schedule_is_run_now_and_its_batch_is_followed(reader: Reader) -> None:
    page = reader.page
    page.goto("/schedules")
    page.get_by_role("button", name="Run nightly now").click()
    expect(page.get_by_text("is left to a worker")).to_be_visible()
    wait_until(lambda: page.reload() and page.get_by_text("submitted 4 rows").is_visible())
    page.get_by_role("link", name=re.compile("nightly-")).click()
    expect(page.get_by_text("4 on record, 4 expected")).to_be_visible()


def test_what_takes_longer_than_a_request_may_goes_on_by_itself(
    reader: Reader, store: Store
) -> None:
    hold_many(store.redis)
    page, slices = reader.page, list[int]()
    page.on("response", lambda got: slices.append(got.status) if _is_slice(got) else None)
    page.goto("/cancel?state=held")
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel 1,000 jobs or more?")
    page.get_by_role("button", name="Cancel 1,000 jobs or more").click()
    said = page.get_by_text(f"Ending now: {MANY:,} jobs.")
    expect(said).to_be_visible(timeout=100_000 * busyness())
    assert slices[-1] == 302
    assert len(slices) > 1
    assert not reader.complaints


def _is_slice(response: Any) -> bool:
    return bool(response.request.method == "POST" and "/cancel" in response.url)


def hold_many(redis: "Redis") -> None:
    """Hold many jobs, as fast as can be: with what a list and a cancellation read of each."""
    lane, now = str(Lane(Priority.BATCH, "default")), time.time() - 60
    with redis.pipeline(transaction=False) as pipe:
        pipe.sadd(keys.STATES, "held:sonic.wav")
        for number in range(MANY):
            held = {"state": "held", "operation": "sonic.wav", "created_at": now, "lane": lane}
            pipe.hset(keys.job(f"many-{number}"), mapping=held)  # type: ignore[arg-type]
            pipe.zadd(f"{keys.STATES}:held:sonic.wav", {f"many-{number}": now})
        pipe.execute()


def test_an_operator_cancels_all_500_that_match_a_filter(
    reader: Reader, store: Store, redis: "Redis"
) -> None:
    now = time.time()
    for number in range(600):
        tenant = "acme" if number % 6 else "other"
        store.accept(store.submit(f"job-{number}", at=now - 100, tenant=tenant), at=now - 99)
    page = reader.page
    page.goto("/jobs")
    page.get_by_label("Tenant").fill("acme")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name="Cancel all that match").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel 500 jobs?")
    page.get_by_role("button", name="Cancel 500 jobs").click()
    expect(page.get_by_text("Ending now: 500 jobs.")).to_be_visible()
    left = [row.tenant for row in Lists(redis).select(Filter(state=JobState.WAITING))]
    assert left == ["other"] * 100


def test_a_page_follows_what_happens_and_outlives_a_restart_of_the_desk(
    browser: Browser, system: System, redis: "Redis"
) -> None:
    store, now = Store(redis), time.time()
    desk = system.desk("restarted")
    reader = Reader(browser, desk)
    page = reader.page
    job = store.submit("job-1", at=now)
    page.goto("/jobs/job-1")
    page.evaluate("window.same = true")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_contain_text("submitting")
    store.accept(job, at=time.time())
    expect(heading).to_contain_text("waiting")
    assert not reader.complaints
    stop(desk.process)
    again = system.desk("again", port=desk.port)
    store.end(job, at=time.time())
    expect(heading).to_contain_text("succeeded", timeout=20_000 * busyness())
    assert page.evaluate("window.same")
    reader.close()
    stop(again.process)


def test_now_counts_without_a_reload(reader: Reader, store: Store) -> None:
    page = reader.page
    page.goto("/")
    page.evaluate("window.same = true")
    for number in range(3):
        store.accept(store.submit(f"job-{number}", at=time.time()), at=time.time())
    counter = page.get_by_role("link", name="waiting")
    expect(counter).to_contain_text("3")
    assert page.evaluate("window.same")


def test_now_and_gate_follow_a_pause_from_elsewhere_while_no_job_turns(
    reader: Reader, store: Store
) -> None:
    page = reader.page
    for path, headline in (("/gate", "Paused"), ("/", "The gate is open")):
        page.goto(path)
        page.evaluate("window.same = true")
        if headline == "Paused":
            store.gate.pause("somebody (elsewhere)", now=time.time())
        else:
            store.gate.resume("somebody (elsewhere)", now=time.time())
        expect(page.get_by_role("heading", level=1)).to_contain_text(headline)
        assert page.evaluate("window.same")
    assert not reader.complaints


def test_one_tenant_is_paused_and_resumed_without_a_word_to_the_others(
    reader: Reader, store: Store
) -> None:
    store.hold("job-1", "sonic.remaster", at=time.time(), tenant="acme")
    page = reader.page
    page.goto("/gate")
    page.get_by_label("Tenant").fill("acme")
    page.get_by_role("button", name="Pause the tenant").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("tenant acme paused")
    page.get_by_label("Operation").select_option("sonic.wav")
    page.get_by_role("button", name="Pause the operation").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("operation sonic.wav paused")
    assert store.gate.release(now=time.time(), stale_at=time.time() + 30).job_ids == []
    page.get_by_role("button", name="Resume tenant acme").click()
    expect(page.get_by_role("heading", level=1)).not_to_contain_text("tenant acme")
    assert store.gate.release(now=time.time(), stale_at=time.time() + 30).job_ids == ["job-1"]
    assert not reader.complaints


def test_a_time_is_in_the_readers_zone_with_utc_behind_it(reader: Reader, store: Store) -> None:
    store.submit("job-1", at=1_763_800_000)
    reader.page.goto("/jobs/job-1")
    recorded = reader.page.locator("time.at").first
    expect(recorded).to_have_text(re.compile("09:26:40"))
    expect(recorded).to_have_attribute("title", "2025-11-22 08:26:40 UTC")


@pytest.mark.parametrize(
    ("scheme", "viewport"), [("light", WIDE), ("dark", NARROW)], ids=["light", "dark and narrow"]
)
def test_every_screen_is_accessible_fits_and_asks_nobody_else(
    browser: Browser, desk: Desk, redis: "Redis", scheme: Any, viewport: Any
) -> None:
    store = populated.everything(redis)
    [entry] = store.quarantine.entries()
    reader = Reader(browser, desk, color_scheme=scheme, viewport=viewport)
    page = reader.page
    for name, path in (SCREENS | PAUSED).items():
        if name in PAUSED:
            store.gate.pause("ada (desk)", now=time.time(), part=f"tenant:{name}")
        page.goto(path.format(entry=entry.entry_id))
        _is_good(page, f"{name}-{scheme}")
    assert not reader.complaints
    assert not reader.elsewhere
    reader.close()


def _is_good(page: Page, name: str) -> None:
    """See that a screen fits, and that everybody can use it."""
    wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wider) <= 0, f"{name} scrolls sideways"
    found = Axe().run(page).response["violations"]
    grave = [each for each in found if each["impact"] in {"serious", "critical"}]
    assert not grave, (name, grave)
    keep_picture(page, name)


def test_everything_works_without_javascript(browser: Browser, desk: Desk, redis: "Redis") -> None:
    store, now = Store(redis), time.time()
    store.accept(store.submit("job-1", "sonic.remaster", at=now - 9), at=now - 8)
    reader = Reader(browser, desk, java_script_enabled=False)
    page = reader.page
    page.get_by_role("link", name="waiting").click()
    page.get_by_role("link", name="sonic.remaster").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("The job ends now.")).to_be_visible()
    page.get_by_role("searchbox").fill("task-job-1")
    page.get_by_role("searchbox").press("Enter")
    expect(page.locator("#j-job-1")).to_be_visible()
    page.goto("/try/sonic.wav")
    page.get_by_label("source").fill(populated.CLIP)
    page.get_by_role("button", name="Show as code").click()
    expect(page.get_by_text("fermata submit sonic.wav")).to_be_visible()
    page.get_by_role("button", name="Enqueue").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("queued")
    page.goto("/manifest")
    page.get_by_label("Or its text").fill(SONGS)
    page.get_by_label("Format").select_option("CSV")
    page.get_by_label("Name of the batch").fill("sea")
    page.get_by_role("button", name="Check it").click()
    page.get_by_role("button", name="Submit 4 rows for 8 credits").click()
    expect(page.get_by_text("4 rows submitted.")).to_be_visible()
    page.get_by_role("button", name="Cancel the batch").click()
    expect(page.get_by_text("Ending now: 4 jobs.")).to_be_visible()
    reader.close()


def test_without_javascript_a_button_goes_on(browser: Browser, desk: Desk, redis: "Redis") -> None:
    hold_many(redis)
    reader = Reader(browser, desk, java_script_enabled=False)
    page = reader.page
    page.goto("/cancel?state=held")
    page.get_by_role("button", name="Cancel 1,000 jobs or more").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Cancelling")
    keep_picture(page, "goes-on-light")
    said = page.get_by_role("status").inner_text()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text(said)).not_to_be_visible()
    reader.close()


@pytest.mark.parametrize(
    ("scheme", "viewport"), [("light", WIDE), ("dark", NARROW)], ids=["light", "dark and narrow"]
)
def test_the_steps_of_a_manifest_are_accessible_and_fit(
    browser: Browser, desk: Desk, redis: "Redis", scheme: Any, viewport: Any
) -> None:
    reader = Reader(browser, desk, color_scheme=scheme, viewport=viewport)
    page = reader.page
    for name, text in (("mistakes", f"{SONGS}lyrics.rite,x\n" * 9), ("checked", SONGS)):
        page.goto("/manifest")
        page.get_by_label("Or its text").fill(text)
        page.get_by_label("Format").select_option("CSV")
        page.get_by_label("Name of the batch").fill("sea")
        page.get_by_role("button", name="Check it").click()
        expect(page.get_by_role("table")).to_be_visible()
        _is_good(page, f"{name}-{scheme}")
    reader.close()


def test_the_keyboard_reaches_the_content_first(reader: Reader) -> None:
    page = reader.page
    page.goto("/jobs")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_a_delivery_is_replayed_from_quarantine_and_dropped(reader: Reader, store: Store) -> None:
    store.quarantined("lost", b"{}", at=time.time())
    page = reader.page
    page.goto("/deliveries")
    page.locator("section[aria-label=Quarantine] table a").click()
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("It still cannot be used")).to_be_visible()
    page.get_by_role("button", name="Drop for good").click()
    expect(page.get_by_text("The quarantine is empty.")).to_be_visible()
    assert not list(store.quarantine.entries())


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without"])
def test_an_orphan_is_verified_and_its_job_adopted(
    browser: Browser, desk: Desk, store: Store, scripts: bool
) -> None:
    body = recorded.delivery("delivery_completed")
    store.quarantined("orphan", body, at=time.time(), signed=True)
    reader = Reader(browser, desk, java_script_enabled=scripts)
    page = reader.page
    page.goto("/deliveries")
    page.locator("section[aria-label=Quarantine] table a").click()
    page.get_by_role("button", name="Verify again").click()
    expect(page.get_by_text("Its signature is right")).to_contain_text("the end of a job")
    page.get_by_label("Operation").select_option("sonic.remaster")
    page.get_by_label("Tenant").fill("acme")
    page.get_by_role("button", name="Adopt").click()
    expect(page.get_by_text("Adopted: the job is succeeded.")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded")
    page.goto("/jobs?tenant=acme")
    expect(page.locator("#j-orphan")).to_be_visible()
    reader.close()
