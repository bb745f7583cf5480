"""Traces, as an operator sees them: real processes with OpenTelemetry's SDK write their spans."""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.canvas import Signature

from benchmarks.house import Measured
from tests.integration.flow import HELD
from tests.job import pressed
from tests.system import ROOT, System, wait_until
from tests.traced import COMMAND, SPANS, in_memory
from worker import tracing
from worker.core.job.models import JobId
from worker.core.job.states import JobState, Turn
from worker.core.job.timing import Policy
from worker.messages.press import Publisher, SubmitLegs
from worker.store.agenda import Agenda
from worker.store.embedded import EmbeddedValkey
from worker.store.readings import Readings
from worker.store.records import Records
from worker.tracing import HELD_LONG_SECONDS

REMASTER = "fermata.sonic.remaster"
RUN, PUBLISH = f"run/{REMASTER}", f"apply_async/{REMASTER}"
NOW = 1_763_800_000.0


class TracedSystem(System):
    """The system whose receiver and worker have an SDK."""

    receiver_app = "tests.traced:receiver()"


@dataclass
class Span:
    """One span, as its process wrote it."""

    name: str
    trace: str
    id: str
    parent: str | None
    links: list[str]
    kind: str
    status: str
    start: float
    end: float
    attributes: dict[str, Any]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("traced")
    settings: dict[str, Any] = {SPANS: str(folder / "spans")}
    with TracedSystem(folder, **settings) as system:
        system.worker(app="tests.traced_app")
        yield system


def spans(system: System) -> list[Span]:
    return [span for span in all_spans(system) if span.name != COMMAND]


def all_spans(system: System) -> list[Span]:
    lines = (system.folder / "spans").read_text().splitlines()
    return [Span(**json.loads(line)) for line in lines]


def produce(system: System, *job_ids: str) -> None:
    """Enqueue jobs, each after the one before, from a traced backend."""
    name = f"backend-{job_ids[0]}"
    assert system.run(name, "-m", "tests.traced", *job_ids).wait(60) == 0, system.log(name)


def succeeded(system: System, job_id: str) -> Callable[[], bool]:
    return lambda: system.state(job_id) == JobState.SUCCEEDED


@dataclass
class Tree:
    """The spans of one trace, by who is below whom."""

    spans: list[Span]

    def child(self, parent: Span, name: str, nth: int = 0) -> Span:
        found = [s for s in self.spans if s.parent == parent.id and s.name == name]
        return sorted(found, key=lambda span: span.start)[nth]


def test_a_chain_over_two_webhooks_is_one_tree_and_both_webhooks_are_linked(
    traced: System,
) -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    for job_id in (first, second):
        traced.simulator.rule(job_id, latency_seconds=0.3)
    produce(traced, first, second)
    wait_until(succeeded(traced, second), what="the chain ends")

    wait_until(lambda: sum(s.name == RUN for s in spans(traced)) == 4, what="the legs are written")
    written = spans(traced)
    [order] = [s for s in written if s.name == "an order"]
    tree = Tree([s for s in written if s.trace == order.trace])
    above = order
    for job_id in (first, second):
        published = tree.child(above, PUBLISH)
        submit = tree.child(published, RUN)
        at_provider = tree.child(submit, "at the provider")
        above = resumed = tree.child(submit, RUN)
        [webhook] = [s for s in written if s.id in resumed.links]
        assert (webhook.name, webhook.kind, webhook.parent) == ("webhook", "SERVER", None)
        assert webhook.links == [submit.id]
        assert webhook.trace != order.trace
        assert at_provider.attributes["fermata.job_id"] == job_id
        assert at_provider.attributes["fermata.source"] == "webhook"
        assert submit.start < at_provider.start < at_provider.end < resumed.start
        assert at_provider.end - at_provider.start == pytest.approx(0.3, abs=0.29)
        assert resumed.status == "UNSET"
    # Nothing else: no publish is drawn where a job parks, and none hangs loose.
    assert len(tree.spans) == 1 + 2 * 4
    assert {s.name for s in written if s.trace != order.trace} == {"webhook"}


def test_the_id_of_the_trace_stands_in_the_job_and_in_the_log(traced: System) -> None:
    job_id = str(uuid.uuid4())
    traced.simulator.rule(job_id, latency_seconds=0.1)
    produce(traced, job_id)
    wait_until(succeeded(traced, job_id), what="the job ends")

    record = traced.readings.read(JobId(job_id))
    assert record.trace_id in {s.trace for s in spans(traced) if s.name == "an order"}
    [line] = [
        line
        for line in traced.fermata("job", job_id).stdout.splitlines()
        if line.startswith("trace ")
    ]
    assert line.split() == ["trace", record.trace_id]
    for event in ("job_submitted", "job_settled"):
        lines = [s for s in traced.log("worker").splitlines() if event in s and job_id in s]
        assert lines
        assert all(str(record.trace_id) in line for line in lines)


def test_a_poll_that_ends_a_job_is_linked_as_a_webhook_is(traced: System) -> None:
    job_id = str(uuid.uuid4())
    traced.simulator.rule(job_id, latency_seconds=0.1, webhook="lost")
    produce(traced, job_id)
    wait_until(succeeded(traced, job_id), what="a poll ends the job")

    def polls() -> list[Span]:
        return [s for s in spans(traced) if s.attributes.get("fermata.job_id") == job_id]

    wait_until(lambda: len(polls()) == 2, what="poll and provider are written")
    poll, at_provider = sorted(polls(), key=lambda span: span.name, reverse=True)
    assert (poll.name, poll.parent) == ("poll", None)
    assert poll.links == [at_provider.parent]
    assert at_provider.attributes["fermata.source"] == "poll"
    assert at_provider.trace == traced.readings.read(JobId(job_id)).trace_id

    def resumed() -> list[Span]:
        return [s for s in spans(traced) if s.name == RUN and s.parent == at_provider.parent]

    wait_until(resumed, what="the resumed leg is written")
    assert [leg.links for leg in resumed()] == [[poll.id]]


def test_what_a_worker_repeats_for_ever_is_not_traced(traced: System) -> None:
    job_id = str(uuid.uuid4())
    traced.simulator.rule(job_id, **HELD)
    produce(traced, job_id)
    wait_until(lambda: traced.state(job_id) == JobState.WAITING, what="the job waits")
    read = traced.readings.read
    wait_until(lambda: read(JobId(job_id)).polls, what="a poll finds that the job still runs")

    commands = [span for span in all_spans(traced) if span.name == COMMAND]
    assert any(span.parent for span in commands), "those of a leg are drawn"
    repeated = ("worker.app.", "fermata-leases", "fermata-poll")
    alone = {span.attributes["thread"] for span in commands if span.parent is None}
    assert not [thread for thread in alone if thread.startswith(repeated)]


def test_a_job_that_is_submitted_again_stays_in_its_trace(traced: System) -> None:
    job_id = str(uuid.uuid4())
    traced.simulator.rule(job_id, times=1, submit="rate_limited")
    traced.simulator.rule(job_id, latency_seconds=0.1)
    produce(traced, job_id)
    wait_until(succeeded(traced, job_id), what="the second submission succeeds")

    def legs() -> list[Span]:
        of_job = [s for s in spans(traced) if s.attributes.get("messaging.message.id") == job_id]
        return sorted(of_job, key=lambda span: span.start)

    wait_until(lambda: len(legs()) == 4, what="its publish and three legs are written")
    published, refused, accepted, resumed = legs()
    assert refused.parent == accepted.parent == published.id
    assert resumed.parent == accepted.id


def test_a_job_that_was_held_for_long_begins_a_trace_of_its_own(
    redis: Any, valkey: EmbeddedValkey
) -> None:
    records, readings = Records(redis), Readings(redis)
    publisher = Publisher(valkey.url, {}, connect_seconds=5)
    legs = SubmitLegs(readings, Agenda(redis), publisher, lambda: NOW, Policy())
    fields = {"operation": "sonic.remaster", "parked": kept_message(), "lane": "batch:default"}
    fields["cost"] = "0"
    held_for = {"long": HELD_LONG_SECONDS + 1, "short": HELD_LONG_SECONDS - 1}
    with in_memory() as written:
        with tracing.root("an order"):
            order = tracing.traceparent()
            for name, seconds in held_for.items():
                assert records.turn(
                    JobId(name),
                    Turn.HOLD,
                    now=NOW - seconds,
                    due_at=NOW,
                    fields=fields | tracing.kept(),
                )
        for name in held_for:
            legs.publish(JobId(name), stale_at=NOW, was_held=True)
    publisher.close()

    sent = [json.loads(message)["headers"] for message in redis.lrange("fermata", 0, -1)]
    [headers] = [each for each in sent if "traceparent" in each]
    _, held_span = written.get_finished_spans()
    assert held_span.context is not None
    assert (held_span.name, held_span.parent) == ("held", None)
    assert held_span.start_time == round((NOW - held_for["long"]) * 1e9)
    assert f"{held_span.context.span_id:016x}" in headers["traceparent"]
    assert [f"{link.context.span_id:016x}" in order for link in held_span.links] == [True]


def kept_message() -> str:
    """A message as a record keeps it, of a job that no tracing has touched."""
    app = Celery(broker="memory://", set_as_current=False)
    signature: Signature[Any] = app.signature(REMASTER, queue="fermata")
    return pressed(signature).message


def test_without_an_sdk_a_chain_loads_nothing_of_it(tmp_path: Path) -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    # redis-py loads the SDK by itself if it is installed. So let it seem not to be.
    hidden = "import sys; sys.modules['opentelemetry.sdk'] = None"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    settings: dict[str, Any] = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with Measured(tmp_path, **settings) as system:
        system.worker(app="tests.canvas_app")
        for job_id in (first, second):
            system.simulator.rule(job_id, latency_seconds=0.1)
        remaster: dict[str, Any] = {"kwargs": {"mv": "chirp-v5"}, "queue": "fermata"}
        chain = (
            system.app.signature(REMASTER, (str(uuid.uuid4()),), task_id=first, **remaster)
            | system.app.signature(REMASTER, task_id=second, **remaster)
            | system.app.signature("test.loaded", queue="fermata")
        )
        loaded = chain.apply_async().get(timeout=60)
        # A job settles when what follows it is published, which may be after that has run.
        wait_until(succeeded(system, second), what="the second job settles")
        record = system.readings.read(JobId(second))
    assert "opentelemetry.trace" in loaded
    assert not [name for name in loaded if name.startswith("opentelemetry.sdk")]
    assert record.traceparent is None
