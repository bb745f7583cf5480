"""One trace for a job and all that follows it, by OpenTelemetry's API; without an SDK, nothing.

OpenTelemetry's instrumentation of Celery draws the publishes and the legs, as for any task. It
cannot see what holds the two legs of a job together, because no message leads from one to the
other. So the record keeps the context of the job's submit leg (``traceparent``), and a claim adds
the context of the request that brought the event (``event_traceparent``). The resumed leg is a
child of the first and is linked to the second. The time between is drawn when it is over, as one
span "at the provider": a span that is open when its process dies is lost. A webhook, a poll, a row
of a batch and a job that was held for long begin traces of their own, with a link. What a worker
repeats for ever (sweep, admission, conductor) is not traced. Nothing but this module knows
OpenTelemetry, and no error's text goes into a span. An error of an SDK is logged and goes no
further: a trace is not worth a job.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final

import structlog
from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    ProxyTracerProvider,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.core.wording import told

log = structlog.get_logger()

HELD_LONG_SECONDS: Final = 60.0
"""A job that was held for longer begins a trace of its own: its producer's has long ended."""

_FIELD: Final = "traceparent"
_SUPPRESSED: Final = (
    getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation"),
    "suppress_instrumentation",
)
"""Instrumentations look for one or the other; the first is not public."""

# A record's field has the same form whichever propagators the process is set to.
_w3c = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("fermata")


def is_on() -> bool:
    """Say whether this process has an SDK."""
    return not isinstance(trace.get_tracer_provider(), ProxyTracerProvider)


def is_recorded() -> bool:
    """Say whether the current span is written."""
    return trace.get_current_span().is_recording()


def trace_id() -> str:
    """Return the current trace's id in 32 hexadecimal digits; an empty text outside a trace."""
    found = _current()
    return trace.format_trace_id(found.trace_id) if found.is_valid else ""


def traceparent() -> str:
    """Return the current span's context as a record keeps it; an empty text outside a trace."""
    if not _current().is_valid:
        return ""
    carrier: dict[str, str] = {}
    with _harmless():
        _w3c.inject(carrier)
    return carrier.get(_FIELD, "")


def kept() -> dict[str, str]:
    """Return what a record keeps of the current span: one field, or none outside a trace."""
    return {_FIELD: found} if (found := traceparent()) else {}


def headers_of(traceparent: str | None) -> dict[str, str]:
    """Return the headers by which a message goes on from a span; none if there is no span."""
    headers: dict[str, str] = {}
    if traceparent:
        with _harmless():
            propagate.inject(headers, _context(traceparent))
    return headers


# -- spans ------------------------------------------------------------------------------------


@contextlib.contextmanager
def root(
    name: str,
    *,
    link: str | None = None,
    since: float | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    **attributes: str,
) -> Iterator[None]:
    """Begin a trace, and make its first span the current one.

    Args:
        link: the ``traceparent`` of a span that it is linked to.
        since: when the span began, in Unix seconds; None: now.
    """

    def begin() -> AbstractContextManager[Span]:
        start = None if since is None else _nanoseconds(since)
        span = _tracer.start_span(
            name, Context(), kind, _named(attributes), _links(link), start_time=start
        )
        return trace.use_span(span, end_on_exit=True)

    with _shielded(begin) as span:
        try:
            yield
        except Exception as error:
            # An error's own text may have a secret in it, such as the URL of Redis.
            if span:
                with _harmless():
                    span.set_status(StatusCode.ERROR, type(error).__name__)
            raise


def request(name: str, *, job_id: str) -> AbstractContextManager[None]:
    """Serve a request in a trace: in the web framework's, if that is instrumented, or in a new one.

    A new one does not follow the ``traceparent`` that a stranger may send.
    """
    if _current().is_valid or not is_on():
        return contextlib.nullcontext()
    return root(name, kind=SpanKind.SERVER, job_id=job_id)


def link(traceparent: str | None) -> None:
    """Link the current span to another one."""
    with _harmless():
        for each in _links(traceparent):
            trace.get_current_span().add_link(each.context)


def write(name: str, parent: str, since: float, until: float, **attributes: str) -> None:
    """Write a span that is over; times are Unix seconds."""
    with _harmless():
        span = _tracer.start_span(
            name,
            _context(parent),
            SpanKind.CLIENT,
            _named(attributes),
            start_time=_nanoseconds(since),
        )
        span.end(_nanoseconds(until))


@contextlib.contextmanager
def _shielded(begin: Callable[[], AbstractContextManager[Span]]) -> Iterator[Span | None]:
    """Make a span current for a while; None if it could not begin: the work is done anyway."""
    with contextlib.ExitStack() as stack:
        span = None
        with _harmless():
            span = stack.enter_context(begin())
        try:
            yield span
        finally:
            with _harmless():
                stack.close()


@contextlib.contextmanager
def _harmless() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # any error of an SDK, or of an exporter behind it
        log.warning("trace_failed", error=told(error))


# -- what is not to be seen -------------------------------------------------------------------


@contextlib.contextmanager
def suppressed() -> Iterator[None]:
    """Keep the instrumentation of libraries from tracing what this thread does meanwhile."""
    quiet = context.get_current()
    for key in _SUPPRESSED:
        quiet = context.set_value(key, True, quiet)
    token = context.attach(quiet)
    try:
        yield
    finally:
        context.detach(token)


@contextlib.contextmanager
def unsampled() -> Iterator[None]:
    """Let spans that begin meanwhile go unwritten.

    The instrumentation of Celery takes a pressed message for a publish, and heeds no suppression.
    A sampler that heeds the parent, as the default does, drops the child of an unsampled span.
    """
    found = _current()
    if not found.is_valid:
        yield
        return
    flags = TraceFlags(TraceFlags.DEFAULT)
    with trace.use_span(
        NonRecordingSpan(SpanContext(found.trace_id, found.span_id, False, flags)),
        record_exception=False,
        set_status_on_exception=False,
    ):
        yield


def _current() -> SpanContext:
    return trace.get_current_span().get_span_context()


def _context(traceparent: str) -> Context:
    """Read a record's field; a damaged one is no context."""
    return _w3c.extract({_FIELD: traceparent}, Context())


def _links(traceparent: str | None) -> list[Link]:
    if not traceparent:
        return []
    found = trace.get_current_span(_context(traceparent)).get_span_context()
    return [Link(found)] if found.is_valid else []


def _named(attributes: Mapping[str, str]) -> dict[str, str]:
    return {f"fermata.{name}": value for name, value in attributes.items() if value}


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
