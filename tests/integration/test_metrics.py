"""``GET /metrics`` of the desk, over a real Valkey: what it shows, and how."""

import re
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.desk import build, client
from tests.integration.test_overview import NOW, WAV, Lab
from tests.ports import take_port
from tests.servers import program
from worker.core import keys
from worker.core.job.lanes import Lane, Priority
from worker.core.job.models import Event, JobId, Kind, Source
from worker.core.job.states import Turn
from worker.core.providers.aimusic.operations import find
from worker.store.agenda import Agenda
from worker.store.quarantine import Quarantine

STEMS = "sonic.stems_full"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def reader(redis_url: str) -> Any:
    """A client of a desk that may read, as Prometheus is."""
    return client(build(redis_url, FERMATA_TENANT_WEIGHTS="acme=2"), "reader")


class Scraped:
    """The samples of a scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __getitem__(self, wanted: tuple[str, Mapping[str, str]]) -> float | None:
        name, labels = wanted
        return self._samples.get((name, frozenset(labels.items())))

    def labels(self) -> set[str]:
        return {value for _, labels in self._samples for _, value in labels}

    def names(self) -> set[str]:
        return {name for name, _ in self._samples}


class Desk:
    """A desk that is scraped, and the jobs that it shows."""

    def __init__(self, redis: Any, url: str) -> None:
        self.redis = redis
        self.jobs = Lab(redis)
        self._client = reader(url)

    def scrape(self) -> Scraped:
        answer = self._client.get("/metrics")
        assert answer.status_code == 200
        assert answer.content_type.startswith("text/plain; version=0.0.4")
        return Scraped(answer.text)


@pytest.fixture
def desk(redis: Any, valkey: Any) -> Desk:
    return Desk(redis, valkey.url)


def settle_some(desk: Desk) -> None:
    """One job by a webhook, one by a poll, one by its answer; another is at the provider."""
    for number, (source, tenant) in enumerate(
        [(Source.WEBHOOK, "acme"), (Source.POLL, "nobody"), (Source.ANSWER, "somebody")]
    ):
        job = desk.jobs.begin(f"job-{number}", operation=STEMS, tenant=tenant)
        if source is not Source.ANSWER:
            desk.jobs.accept(job, at=NOW + 1)
        desk.jobs.end(job, at=NOW + 41, event=Event(source, body="{}"))
    desk.jobs.accept(desk.jobs.begin("job-9"), at=NOW)


def test_jobs_stand_by_state_with_the_age_of_the_oldest(desk: Desk) -> None:
    settle_some(desk)
    scraped = desk.scrape()
    assert scraped["fermata_jobs", {"state": "waiting", "operation": WAV}] == 1
    age = scraped["fermata_oldest_seconds", {"state": "waiting"}]
    assert age is not None
    assert age > 0
    assert scraped["fermata_oldest_seconds", {"state": "succeeded"}] is None


def test_what_the_scripts_count_is_served(desk: Desk) -> None:
    settle_some(desk)
    desk.jobs.records.note(JobId("job-9"), now=NOW, receipt="progress")
    scraped = desk.scrape()
    for source in ("webhook", "poll"):
        ended = {"operation": STEMS, "source": source, "outcome": "succeeded"}
        assert scraped["fermata_settled_total", ended] == 1
    for outcome, count in (("accepted", 2), ("answered", 1)):
        sent = {"operation": STEMS, "outcome": outcome}
        assert scraped["fermata_submissions_total", sent] == count
    assert scraped["fermata_deliveries_total", {"receipt": "progress"}] == 1


def test_waits_are_histograms_that_prometheus_can_read(desk: Desk) -> None:
    settle_some(desk)
    scraped = desk.scrape()
    wait, of = "fermata_provider_wait_seconds", {"operation": STEMS}
    below = [scraped[f"{wait}_bucket", of | {"le": le}] for le in ("30.0", "45.0", "+Inf")]
    assert below == [0, 2, 2]
    assert (scraped[f"{wait}_count", of], scraped[f"{wait}_sum", of]) == (2, 80)
    lag = "fermata_resume_lag_seconds"
    assert [scraped[f"{lag}_bucket", {"le": le}] for le in ("0.1", "0.25")] == [0, 3]
    assert scraped[f"{lag}_sum", {}] == pytest.approx(0.6, abs=0.01)


def test_only_tenants_with_a_weight_are_named(desk: Desk) -> None:
    settle_some(desk)
    for number, tenant in enumerate(("acme", "nobody", "somebody", "default")):
        lane = Lane(Priority.BATCH, tenant, slow=number == 1)
        desk.jobs.records.turn(
            JobId(f"held-{number}"), Turn.HOLD, now=NOW, due_at=NOW + 10,
            fields={"operation": WAV, "lane": str(lane), "cost": 0},
        )  # fmt: skip
    scraped = desk.scrape()
    price = find(STEMS).credits
    for tenant, spent, held in (("acme", 1, 1), ("other", 2, 2), ("default", None, 1)):
        cost = scraped["fermata_credits_total", {"tenant": tenant, "operation": STEMS}]
        assert cost == (spent and pytest.approx(spent * price))
        lanes = {"tenant": tenant, "priority": "batch"}
        assert scraped["fermata_gate_waiting", lanes] == held
    assert not {"nobody", "somebody"} & scraped.labels()
    assert not [label for label in scraped.labels() if "job-" in label or "held-" in label]


def test_the_gate_the_credits_and_the_conductors_are_shown_once_they_are_known(desk: Desk) -> None:
    before = desk.scrape()
    assert before["fermata_gate_open", {}] == 1
    last_seen = "fermata_conductor_last_seen_timestamp_seconds"
    assert not {"fermata_credits_left", last_seen} & before.names()

    closed: dict[Any, Any] = {"breaker": "OutOfCredits", "closed_at": NOW, "probe_at": NOW}
    desk.redis.hset(keys.GATE, mapping=closed)
    desk.jobs.gate.learn_balance(12.5, spent_before=0)
    desk.jobs.begin("job-1")
    Agenda(desk.redis).sign_of_life("worker@one")
    after = desk.scrape()
    assert after["fermata_gate_open", {}] == 0
    assert after["fermata_gate_in_flight", {}] == 1
    assert after["fermata_credits_left", {}] == pytest.approx(12.5 - find(WAV).credits)
    assert (after[last_seen, {}] or 0) > NOW


def test_no_two_metrics_are_one_family_in_openmetrics(desk: Desk) -> None:
    """OpenMetrics names a counter's family without `_total`."""
    settle_some(desk)
    desk.jobs.gate.learn_balance(12.5, spent_before=0)
    types = re.findall(r"^# TYPE (\S+) (\S+)$", desk.scrape().text, re.MULTILINE)
    families = [name.removesuffix("_total") for name, _ in types]
    assert len(families) == len(set(families)) > 12


def test_a_paused_gate_is_not_open(desk: Desk) -> None:
    desk.jobs.gate.pause("an operator", now=NOW)
    assert desk.scrape()["fermata_gate_open", {}] == 0
    desk.jobs.gate.resume("an operator", now=NOW)
    assert desk.scrape()["fermata_gate_open", {}] == 1


def test_the_quarantine_is_counted_by_kind(desk: Desk) -> None:
    quarantine = Quarantine(desk.redis)
    kept = [
        quarantine.keep(kind, JobId("job-1"), {}, kind.encode() + bytes([n]), "no use", now=NOW)
        for kind, count in ((Kind.ORPHAN, 2), (Kind.UNREADABLE, 3))
        for n in range(count)
    ]
    quarantine.drop(kept[0], kept[-1])
    scraped = desk.scrape()
    for kind, count in (("orphan", 1), ("unreadable", 2)):
        assert scraped["fermata_quarantine_entries", {"kind": kind}] == count
    assert scraped["fermata_deliveries_total", {"receipt": "quarantined"}] == 5
    desk.redis.delete(keys.QUARANTINE)
    assert quarantine.counts() == {Kind.ORPHAN: 0, Kind.UNREADABLE: 0}


def test_promtool_accepts_every_metric(desk: Desk) -> None:
    settle_some(desk)
    desk.jobs.gate.learn_balance(12.5, spent_before=0)
    Agenda(desk.redis).sign_of_life("worker@one")
    checked = subprocess.run(
        [program("promtool", "prometheus"), "check", "metrics"],
        input=desk.scrape().text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_if_redis_is_away_a_scrape_fails_in_one_line() -> None:
    answer = reader(f"redis://127.0.0.1:{take_port()}/0").get("/metrics")
    assert answer.status_code == 503
    [line] = answer.text.splitlines()
    assert "Redis or the broker is away" in line


def test_a_visitor_with_a_tenant_sees_nothing_of_the_others(valkey: Any) -> None:
    assert client(build(valkey.url), "acme-reader").get("/metrics").status_code == 403
