"""OpenTelemetry's SDK, in processes that write their spans to one file, or in a test itself."""

import contextlib
import json
import os
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis import Redis

from worker import tracing

SPANS = "SPANS_FILE"
"""The environment variable that names the file."""

COMMAND = "a command to Redis"


class ToFile(SpanExporter):
    """Appends each span to a file that several processes share."""

    def __init__(self, path: str) -> None:
        self._path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines = "".join(f"{json.dumps(_described(span))}\n" for span in spans)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(lines)
        return SpanExportResult.SUCCESS


def _described(span: ReadableSpan) -> dict[str, Any]:
    found = span.get_span_context()
    assert found is not None
    return {
        "name": span.name,
        "trace": trace.format_trace_id(found.trace_id),
        "id": trace.format_span_id(found.span_id),
        "parent": trace.format_span_id(span.parent.span_id) if span.parent else None,
        "links": [trace.format_span_id(link.context.span_id) for link in span.links],
        "kind": span.kind.name,
        "status": span.status.status_code.name,
        "start": (span.start_time or 0) / 1e9,
        "end": (span.end_time or 0) / 1e9,
        "attributes": dict(span.attributes or {}),
    }


def install() -> None:
    """Switch tracing on in this process, as an application would in a few lines."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ToFile(os.environ[SPANS])))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()  # type: ignore[no-untyped-call]


def instrument_redis() -> None:
    """Draw each command to Redis with its thread's name, as an instrumentation would."""
    clients: Any = Redis
    execute, tracer = clients.execute_command, trace.get_tracer("redis")

    def draw(self: Any, *command: Any, **options: Any) -> Any:
        if context.get_value(_SUPPRESS_INSTRUMENTATION_KEY):
            return execute(self, *command, **options)
        thread = {"thread": threading.current_thread().name}
        with tracer.start_as_current_span(COMMAND, attributes=thread):
            return execute(self, *command, **options)

    clients.execute_command = draw


@contextlib.contextmanager
def in_memory() -> Iterator[InMemorySpanExporter]:
    """Switch tracing on in a test's own process, for a while."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", provider)
        patch.setattr(tracing, "_tracer", provider.get_tracer("fermata"))
        yield exporter


def receiver() -> Any:
    install()
    from webhook_receiver.wsgi import app

    return app


def produce(job_ids: Sequence[str]) -> None:
    """Enqueue jobs, each after the one before, from a traced backend that has none of our code."""
    install()
    from celery import Celery, chain

    app = Celery(broker=os.environ["FERMATA_BROKER_URL"])
    steps = [
        app.signature(
            "fermata.sonic.remaster",
            args=() if n else (str(uuid.uuid4()),),
            kwargs={"mv": "chirp-v5"},
            task_id=job_id,
            queue="fermata",
        )
        for n, job_id in enumerate(job_ids)
    ]
    with app, trace.get_tracer("backend").start_as_current_span("an order"):
        chain(*steps, app=app).apply_async()


if __name__ == "__main__":
    produce(sys.argv[1:])
