"""Now and Gate: how the whole stands.

Both read counters and the heads of indexes, so they cost the same with any number of jobs. A
warning names the fact, and links to what shows more of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from desk.api.jobs import by
from desk.doors import Role, requires, system_wide, visitor
from desk.pages import pages
from desk.pages.drawing import charts
from desk.parts import desk, now
from worker.core import overview, pauses
from worker.core.amounts import count
from worker.core.job.states import LIVE, JobState
from worker.core.overview import Counts, GateView
from worker.core.providers import chosen

SILENT_SECONDS: Final = 60
"""The conductor of each worker gives a sign of life every few seconds."""
DAYS: Final = 14
TENANTS: Final = 20
PARTS: Final = ("tenant", "operation")
"""What a pause may be about, besides everything."""


@dataclass(frozen=True, slots=True)
class Counter:
    """How many jobs stand in a state, and since when the oldest does."""

    state: JobState
    count: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class Notice:
    """What needs a person, and the screen that shows more."""

    said: str
    url: str


@pages.get("/")
def standing() -> str | Response:
    """Show Now: ``GET /``."""
    if visitor().tenant is not None:
        return redirect(url_for("pages.jobs"))
    parts, at = desk(), now()
    gate, minutes = parts.counters.gate(), parts.counters.minutes(now=at, count=charts.MINUTES)
    hour = overview.added(minutes)
    [today] = parts.counters.days(now=at, count=1)
    tenants = overview.by_tenant(today)
    counters, workers = _counters(), parts.counters.workers()
    return render_template(
        "now.html",
        sentence=_headline(gate, at),
        counters=counters,
        warnings=list(_warnings(gate, counters, hour, workers)),
        share=overview.webhook_share(hour, chosen().operations).share,
        spent=overview.total(hour, "credits") / 1000,
        settled=charts.settled(minutes, now=at),
        waits=charts.waits(minutes, now=at),
        quantiles=charts.quantiles(hour),
        tenants=tenants[:TENANTS],
        more_tenants=max(len(tenants) - TENANTS, 0),
        workers=sorted(workers.items()),
        silent_before=at - SILENT_SECONDS,
    )


def _headline(gate: GateView, at: float) -> str:
    said = overview.gate_sentence(gate, desk().settings.limits, now=at)
    is_open = gate.paused_by is None and gate.closed_for is None
    return f"The gate is {said}." if is_open else f"{said[0].upper()}{said[1:]}."


def _counters() -> list[Counter]:
    counts, oldest = desk().counters.counts(), desk().counters.oldest()
    return [
        Counter(
            state,
            sum(size for (each, _), size in counts.items() if each is state),
            oldest.get(state),
        )
        for state in JobState
    ]


def _warnings(
    gate: GateView, counters: list[Counter], hour: Counts, workers: Mapping[str, float]
) -> Iterator[Notice]:
    if gate.paused_by is not None:
        yield Notice(f"The gate was paused by {gate.paused_by}.", url_for("pages.gate"))
    if gate.pauses:
        named = [f"{each.kind} {each.name}, {count(each.held, 'job')} held" for each in gate.pauses]
        if len(named) > overview.PAUSES_NAMED:
            named = [f"{len(named):,} tenants and operations"]
        said = f"Paused: {'; '.join(named)}."
        yield Notice(said, url_for("pages.gate"))
    if gate.closed_for is not None:
        yield Notice(f"The gate is closed: {gate.closed_for}.", url_for("pages.gate"))
    live = sum(each.count for each in counters if each.state in LIVE)
    if live and not any(at > now() - SILENT_SECONDS for at in workers.values()):
        yield Notice(
            f"No worker has given a sign of life for {SILENT_SECONDS} s, and "
            f"{count(live, 'job')} {'waits' if live == 1 else 'wait'}.",
            "#workers",
        )
    yield from _webhooks(hour)
    unconfirmed = next(each.count for each in counters if each.state is JobState.UNCONFIRMED)
    if unconfirmed:
        those = "it" if unconfirmed == 1 else "them"
        said = f"{unconfirmed:,} unconfirmed: nobody knows whether the provider took {those}."
        yield Notice(said, url_for("pages.jobs", state="unconfirmed"))
    if kept := sum(desk().quarantine.counts().values()):
        deliveries = count(kept, "authentic delivery", "authentic deliveries")
        said = f"{deliveries} in quarantine that could not be used."
        yield Notice(said, url_for("pages.deliveries"))


def _webhooks(hour: Counts) -> Iterator[Notice]:
    settled = overview.webhook_share(hour, chosen().operations)
    if settled.is_low:
        said = (
            f"Of {settled.webhooks + settled.polls:,} jobs in the last hour that should have been "
            f"settled by a webhook, only {(settled.share or 0) * 100:.0f} % were: look at the path "
            "to the receiver."
        )
        yield Notice(said, "#settled")


@pages.get("/gate")
@system_wide
def gate() -> str:
    """Show the gate before the provider, who waits there, and what was spent."""
    parts, at = desk(), now()
    view = parts.counters.gate()
    days = parts.counters.days(now=at, count=DAYS)
    counts = parts.counters.counts()
    return render_template(
        "gate.html",
        gate=view,
        sentence=_headline(view, at),
        limits=parts.settings.limits,
        at_provider=parts.counters.at_provider(),
        history=parts.counters.gate_history(),
        operations=_in_use(),
        waiting=sorted(view.waiting.items()),
        oldest=parts.counters.oldest(),
        held=sum(size for (state, _), size in counts.items() if state is JobState.HELD),
        spent=[
            (at - 86400 * ago, by_tenant)
            for ago, each in enumerate(reversed(days))
            if (by_tenant := _by_tenant(each))
        ],
        tenants=sorted({name[1] for each in days for name in each if name[0] == "credits"}),
    )


def _in_use() -> list[str]:
    """List the operations that a job can be of: of a retired one, there is nothing to pause."""
    known = sorted(chosen().operations.items())
    return [name for name, row in known if not getattr(row, "retired", "")]


@pages.post("/gate/pause")
@system_wide
@requires(Role.OPERATE)
def pause_gate() -> Response:
    """Let no job pass the gate, of all or of a part, until somebody resumes it."""
    desk().gate.pause(by(), now=now(), part=_part())
    return redirect(url_for("pages.gate"))


@pages.post("/gate/resume")
@system_wide
@requires(Role.OPERATE)
def resume_gate() -> Response:
    """End a pause."""
    desk().gate.resume(by(), now=now(), part=_part())
    return redirect(url_for("pages.gate"))


def _part() -> str:
    """Read from a form what a pause is about."""
    return pauses.part(**{n: request.form[n].strip() for n in PARTS if n in request.form})


def _by_tenant(day: Counts) -> dict[str, float]:
    return {name[1]: amount / 1000 for name, amount in day.items() if name[0] == "credits"}
