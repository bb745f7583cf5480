"""Spans as the modules of the worker begin and link them, and nothing of it without an SDK."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from tests.traced import in_memory
from worker import tracing
from worker.core.job.models import JobId, JobRecord, Source
from worker.core.job.states import JobState
from worker.core.job.timing import at_provider, held_at

REMOTE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def written() -> Iterator[InMemorySpanExporter]:
    with in_memory() as written:
        yield written


def only(written: InMemorySpanExporter) -> ReadableSpan:
    [span] = written.get_finished_spans()
    return span


def test_without_an_sdk_there_is_no_trace() -> None:
    with tracing.root("row", link=REMOTE), tracing.request("webhook", job_id="job-1"):
        tracing.link(REMOTE)
        assert (tracing.trace_id(), tracing.traceparent(), tracing.kept()) == ("", "", {})
        assert not tracing.is_recorded()
    assert not tracing.is_on()


def test_a_span_that_begins_a_trace_is_linked_and_current(written: InMemorySpanExporter) -> None:
    with tracing.root("an order"), tracing.root("row", link=REMOTE, since=10.5, batch="songs"):
        inside = tracing.traceparent()
        assert tracing.kept() == {"traceparent": inside}
        assert tracing.headers_of(inside) == {"traceparent": inside}
    assert tracing.traceparent() == ""
    row, _ = written.get_finished_spans()
    assert row.context is not None
    assert inside.split("-")[1:3] == [f"{row.context.trace_id:032x}", f"{row.context.span_id:016x}"]
    assert (row.parent, row.start_time) == (None, 10_500_000_000)
    assert [f"{link.context.span_id:016x}" for link in row.links] == [REMOTE.split("-")[2]]
    assert row.attributes == {"fermata.batch": "songs"}


def test_an_error_marks_its_span_and_its_text_stays_out_of_it(
    written: InMemorySpanExporter,
) -> None:
    with pytest.raises(ValueError, match="secret"), tracing.root("poll"):
        raise ValueError("a secret")
    span = only(written)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError")
    assert not span.events


def test_a_request_is_served_in_the_span_of_an_instrumented_framework(
    written: InMemorySpanExporter,
) -> None:
    with tracing.root("POST /webhooks"), tracing.request("webhook", job_id="job-1"):
        tracing.link(REMOTE)
    assert (only(written).name, len(only(written).links)) == ("POST /webhooks", 1)


def test_a_span_that_is_over_is_written_with_its_times(written: InMemorySpanExporter) -> None:
    tracing.write("at the provider", REMOTE, 10.0, 190.25, job_id="job-1", provider_task_id="")
    span = only(written)
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" in REMOTE
    assert (span.start_time, span.end_time) == (10_000_000_000, 190_250_000_000)
    assert span.attributes == {"fermata.job_id": "job-1"}


@pytest.mark.parametrize("damaged", [None, "", "00", "00-0-0-0", f"{REMOTE}-x-y", "\x00" * 55])
def test_a_field_that_is_no_context_is_as_none(
    damaged: str | None, written: InMemorySpanExporter
) -> None:
    assert tracing.headers_of(damaged) == {}
    with tracing.root("poll", link=damaged):
        tracing.link(damaged)
    assert not only(written).links


def test_instrumentations_see_that_they_are_to_be_silent() -> None:
    def said() -> list[object]:
        keys = (_SUPPRESS_INSTRUMENTATION_KEY, "suppress_instrumentation")
        return [context.get_value(key) for key in keys]

    with tracing.suppressed():
        assert said() == [True, True]
    assert said() == [None, None]


def test_what_is_not_sampled_is_not_written(written: InMemorySpanExporter) -> None:
    tracer = trace.get_tracer("an instrumentation")
    with tracing.root("leg"), tracing.unsampled(), tracer.start_as_current_span("a press"):
        pass
    assert only(written).name == "leg"


@pytest.mark.parametrize(
    ("traceparent", "trace_id"), [(None, None), (REMOTE, REMOTE.split("-")[1]), ("damaged", None)]
)
def test_a_record_tells_its_trace(traceparent: str | None, trace_id: str | None) -> None:
    record = JobRecord(
        JobId("job-1"), "sonic.wav", JobState.QUEUED, 1.0, 2.0, traceparent=traceparent
    )
    assert record.trace_id == trace_id


def told(*turns: str) -> list[dict[str, object]]:
    return [{"what": what, "at": at} for at, what in enumerate(turns)]


@pytest.mark.parametrize(
    ("turns", "source", "times"),
    [
        (("submit", "accept", "song.streaming", "claim"), Source.WEBHOOK, (1, 3)),
        (("submit", "postpone", "submit", "accept", "claim"), Source.POLL, (3, 4)),
        (("submit", "accept", "claim"), Source.CANCEL, (1, 2)),
        (("submit", "claim"), Source.WEBHOOK, (0, 1)),
        (("submit", "claim"), Source.ANSWER, None),
        (("hold", "claim"), Source.CANCEL, None),
        (("submit", "accept"), Source.WEBHOOK, None),
    ],
)
def test_a_jobs_time_at_the_provider(
    turns: tuple[str, ...], source: Source, times: tuple[float, float] | None
) -> None:
    assert at_provider(told(*turns), source) == times


def test_a_job_was_held_when_the_gate_held_it_last() -> None:
    assert held_at(told("hold", "admit", "submit", "postpone", "hold", "admit")) == 4
    assert held_at(told("hold", "hold", "admit")) == 0
    assert held_at(told("enqueue", "submit")) is None


class Broken(SpanProcessor):
    """An SDK whose exporter fails, as a span begins or as it ends."""

    def __init__(self, at: str) -> None:
        self._at = at

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._at == "start":
            raise RuntimeError("the exporter's own error")

    def on_end(self, span: Any) -> None:
        if self._at == "end":
            raise RuntimeError("the exporter's own error")


@pytest.mark.parametrize("at", ["start", "end"])
def test_an_error_of_the_sdk_reaches_nobody(at: str, written: InMemorySpanExporter) -> None:
    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(Broken(at))
    done = []
    with tracing.root("row", link=REMOTE):
        done.append("the work")
    with tracing.request("webhook", job_id="job-1"):
        done.append("the webhook")
    tracing.write("at the provider", REMOTE, 1.0, 2.0)
    assert done == ["the work", "the webhook"]
    with pytest.raises(ValueError, match="of the work"), tracing.root("row"):
        raise ValueError("an error of the work")
    assert tracing.traceparent() == ""
