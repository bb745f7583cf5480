"""The tables that a person sees in the terminal: jobs, one job's timeline, batches, quarantine.

Every text that the provider or a user wrote goes through ``printable``: a terminal would obey
control characters in it.
"""

import contextlib
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from worker.batch import Batch
from worker.core.contract import JOB_ID
from worker.core.job import canvas
from worker.core.job.canvas import Step
from worker.core.job.models import Entry, JobId, JobRecord, JSONObject
from worker.core.job.states import TERMINAL, JobState
from worker.core.providers import chosen
from worker.core.providers.aimusic.operations import Operation
from worker.engine.describe import read_late
from worker.messages.watch import Sight

_PROSE: Final = 24
"""A column of prose that is narrower than this helps nobody."""

_NARROW: Final = 10
"""In a table that leaves out what it can, prose of so few characters still says something."""
_NAMING: Final = 3
"""So many columns of a table name what a line is about: they come first, and are always there."""
_REASON: Final = 200
_SHORT: Final = 100

_COLOURS: Final = {
    "succeeded": "green",
    "failed": "red",
    "expired": "red",
    "not run": "red",
    "cancelled": "red",
    "held": "yellow",
    "admitted": "cyan",
    "waiting": "cyan",
    "resuming": "cyan",
    "submitting": "cyan",
    "unconfirmed": "yellow",
}


@contextlib.contextmanager
def live(console: Console) -> Iterator[Live]:
    """Show a table that changes in place. In a pipe or a file, it ends with a newline."""
    try:
        with Live(console=console, auto_refresh=False) as shown:
            yield shown
    finally:
        if not console.is_terminal:
            console.line()


def flow_table(sights: Iterable[Sight]) -> RenderableType:
    """Show the jobs of a flow, and below them why any of them failed or is held."""
    seen = {sight.step.job_id: sight for sight in sights}
    table = _flow_table(seen)
    whys = {s.step.operation: _why(s.record) for s in seen.values() if s.record}
    return Group(table, *(f"{operation}: {why}" for operation, why in whys.items() if why))


def _flow_table(seen: Mapping[JobId, Sight], *, here: str = "") -> Table:
    table = _table("operation", "state", "job id", "seconds")
    for lines, step in canvas.branches(sight.step for sight in seen.values()):
        sight = seen[step.job_id]
        name = f"[bold]{safe(step.operation)}[/]" if step.job_id == here else safe(step.operation)
        name += " [dim](after the group)[/]" if step.joins else ""
        seconds = f"{_seconds(sight.record):.1f}" if sight.record else ""
        job_id = safe(step.job_id) if JOB_ID.fullmatch(step.job_id) else ""
        table.add_row(lines + name, coloured(sight.state), job_id, seconds)
    return table


def enqueued(steps: Iterable[Step]) -> Iterator[str]:
    """Describe the jobs of a flow that was enqueued, in a line each."""
    return (f"{step.job_id}  {lines}{step.operation}" for lines, step in canvas.branches(steps))


def jobs_table(records: Iterable[JobRecord], *, width: int) -> Table:
    """Show jobs, the newest flow first, each job below the one that it follows."""
    names = ("job id", "operation", "state", "seconds", "created (UTC)", "why")
    known = {record.job_id: record for record in records}
    rows = [
        (
            record.job_id,
            lines + ("… " if _skips(record, known) else "") + record.operation,
            coloured(record.state),
            f"{_seconds(record):.1f}",
            utc(record.created_at).strftime("%m-%d %H:%M:%S"),
            _why(record),
        )
        for lines, step in canvas.branches(_as_flows(known))
        for record in (known[step.job_id],)
    ]
    return fitted(names, rows, width)


def _skips(record: JobRecord, known: Mapping[JobId, JobRecord]) -> bool:
    """Say whether the job that it follows is not shown, so that it stands below the first."""
    return record.after not in {None, record.first} and record.after not in known


def _as_flows(known: Mapping[JobId, JobRecord]) -> Iterator[Step]:
    """Yield jobs with those that they follow, or else the first of their flow: oldest last."""
    first = {record.job_id: record.first or record.job_id for record in known.values()}
    newest = {first[job_id]: place for place, job_id in reversed([*enumerate(known)])}
    by_age = sorted(known.values(), key=lambda job: (newest[first[job.job_id]], job.created_at))
    for job in by_age:
        after = job.after if job.after in known else job.first
        yield Step(job.job_id, job.operation, after)


def operations_table(rows: Iterable[Operation]) -> Table:
    """Show the operations there are."""
    table = _table("operation", "mode", "credits", "")
    for row in rows:
        retired = f" [yellow](retired: use {row.retired})[/]" if row.retired else ""
        summary = row.summary.partition(";")[0].partition(". ")[0].rstrip(".")
        table.add_row(row.name, row.mode, f"{row.credits:g}", safe(summary) + retired)
    return table


def job(
    record: JobRecord, flow: Sequence[Sight] = (), request: JSONObject | None = None
) -> RenderableType:
    """Show one job: its facts, its request, its flow, its timeline, and its result or error.

    Args:
        request: see :func:`worker.core.job.kept.request`; None if it is not kept any more.
    """
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(record):
        facts.add_row(f"[dim]{name}", safe(value))
    facts.add_row("[dim]state", coloured(record.state))
    timeline = _table("at (UTC)", "+s", "what", "state", "why")
    for entry in record.timeline:
        at = utc(entry["at"])
        since = f"{max(0, entry['at'] - record.created_at):.2f}"
        state = coloured(entry["state"]) if "state" in entry else ""
        moment = at.strftime("%H:%M:%S.%f")[:-3]
        timeline.add_row(moment, since, safe(entry["what"]), state, safe(entry.get("why", "")))
    around = {sight.step.job_id: sight for sight in flow}
    beside: list[RenderableType] = []
    if len(around) > 1:
        beside = ["", _flow_table(around, here=record.job_id), ""]
    ending = _ending(record.error, record.result)
    asked = _request(request) if request else []
    return Group(
        facts, *asked, *beside, timeline, *([""] if ending else []), *ending, *_late(record)
    )


def _facts(record: JobRecord) -> Iterator[tuple[str, str]]:
    priority, _, tenant = record.lane.partition(":")
    yield "job", record.job_id
    yield "operation", record.operation
    if tenant:
        yield "priority / tenant", f"{priority} / {tenant}"
    if record.batch:
        yield "batch", record.batch
    if record.cost:
        yield "list price", f"{record.cost:g} credits"
    yield "provider task", record.provider_task_id or "unknown"
    yield "attempts / polls / claims", f"{record.attempts} / {record.polls} / {record.claims}"
    if record.polled_at:
        yield "last poll", f"{utc(record.polled_at):%H:%M:%S}: {record.polled}"
    if record.source:
        yield "ended by", record.source
    if record.again:
        yield "runs again as", record.again
    if record.trace_id:
        yield "trace", record.trace_id
    yield "due time", f"{utc(record.due_at):%Y-%m-%d %H:%M:%S} UTC" if record.due_at else "none"


def _request(request: JSONObject) -> list[RenderableType]:
    """Show the request; of a source that is another job's whole result, its job alone."""
    source = request["source"]
    # A follow-up gets the whole result of the job before it: with twelve clips, pages of JSON.
    if isinstance(source, dict) and source.get("job_id"):
        source = f"the result of {source['job_id']}"
    asked = ({"source": source} if source else {}) | request["parameters"]
    lines = (line for name, value in asked.items() for line in _lines(name, value, "  "))
    return ["\n[dim]request[/]", *(escape(printable(line, keep="\n")) for line in lines), ""]


def _late(record: JobRecord) -> list[RenderableType]:
    if not record.late:
        return []
    read = read_late(record, chosen())
    came = utc(record.late["at"]).strftime("%Y-%m-%d %H:%M:%S")
    told = f"\n[yellow]This came late, at {came} UTC, when the job had ended without it:[/]"
    return [told, *_ending(read.get("error"), read.get("result"))]


def quarantine_table(entries: Iterable[Entry], *, width: int) -> Table:
    """Show the entries of the quarantine."""
    names = ("entry", "job id", "kind", "bytes", "at (UTC)", "why")
    rows = [
        tuple(map(safe, (each.entry_id, each.job_id, each.kind, each.size, _at(each), each.why)))
        for each in entries
    ]
    return fitted(names, rows, width)


def _at(entry: Entry) -> str:
    return utc(entry.at).strftime("%m-%d %H:%M:%S")


def quarantined(entry: Entry) -> RenderableType:
    """Show one delivery: why it was kept, its headers, its body."""
    facts = Table.grid(padding=(0, 2))
    known = {"entry": entry.entry_id, "at": utc(entry.at), "kind": entry.kind}
    known |= {"job": entry.job_id, "why": entry.why, "bytes": entry.size}
    for name, value in (*known.items(), *entry.headers.items()):
        facts.add_row(f"[dim]{safe(name)}", safe(value))
    return Group(facts, "", escape(printable(_readable(entry.body), keep="\n\t")))


def _readable(body: bytes) -> str:
    text = body.decode(errors="backslashreplace")
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def printable(text: str, *, keep: str = "") -> str:
    """Escape characters that a terminal would obey instead of print: a stranger wrote the text."""
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def safe(value: object) -> str:
    """Escape a text of others for a table."""
    return escape(printable(str(value)))


def _ending(
    error: Mapping[str, Any] | None, result: Mapping[str, Any] | None
) -> list[RenderableType]:
    if error:
        return [f"[red]{safe(error['type'])}[/]: {safe(error['message'])}"]
    if not result:
        return []
    clips = _table("clip", "state", "seconds", "audio")
    for clip in result["clips"]:
        title = clip.get("stem_type") or clip.get("title") or clip["clip_id"] or ""
        seconds, audio = clip.get("duration_seconds"), clip.get("audio_url") or ""
        clips.add_row(safe(title), safe(clip["state"]), safe(seconds or ""), safe(audio))
    told = (line for name, value in result["data"].items() for line in _lines(name, value))
    return [clips, *(escape(printable(line, keep="\n")) for line in told)]


def _lines(name: str, value: object, indent: str = "") -> Iterator[str]:
    """Write a value of any form: a short one on one line, a text of many lines as it is."""
    inner = indent + "  "
    if isinstance(value, str):
        many = "\n" in value
        yield f"{indent}{name}:" + (textwrap.indent(f"\n{value}", inner) if many else f" {value}")
        return
    short = json.dumps(value, ensure_ascii=False)
    if len(short) <= _SHORT or not isinstance(value, dict | list):
        yield f"{indent}{name}: {short}"
        return
    yield f"{indent}{name}:"
    for key, each in value.items() if isinstance(value, dict) else enumerate(value, start=1):
        yield from _lines(str(key), each, inner)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in {"job id", "entry"})
    return table


def fitted(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table:
    """Make a table of a line for each row, without the columns that are empty.

    The very last column is prose. If there is no room for all, the columns before it are left out,
    the last ones first, and prose that is still too long is cut with "…".
    """
    *facts, prose = zip(names, *rows, strict=True)
    facts = [column for column in facts if any(column[1:])]
    ends = [*accumulate(map(_needed, facts))]
    wanted = min(_needed(prose), _PROSE) if any(prose[1:]) else 0
    kept = max(sum(end + wanted - 2 <= width for end in ends), min(_NAMING, len(facts)))
    room = width - ends[kept - 1]
    if not wanted or room < min(wanted - 2, _NARROW):
        kept, room = sum(end - 2 <= width for end in ends), 0
    columns = [*facts[:kept], *([prose] if room else [])]
    table = _table(*(column[0] for column in columns))
    for row in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*row)
    for column in table.columns:
        column.no_wrap = True
    if room:
        table.columns[-1].overflow, table.columns[-1].max_width = "ellipsis", room
    return table


def _needed(column: Sequence[str]) -> int:
    return max(Text.from_markup(cell).cell_len for cell in column) + 2


def coloured(state: str) -> str:
    """Write a state in its colour."""
    return f"[{_COLOURS.get(state, 'white')}]{state}[/]"


def _why(record: JobRecord) -> str:
    if record.state is JobState.HELD and record.timeline:
        return safe(record.timeline[-1].get("why", ""))
    if not record.error:
        return ""
    # Beside it stands the operation, which most messages name first.
    why = record.error["message"].removeprefix(f"{record.operation}: ")
    return safe(f"{why[: _REASON - 1]}…" if len(why) > _REASON else why)


def _seconds(record: JobRecord) -> float:
    """How long a job has taken, to its last turn."""
    # What came later, such as a late webhook or a retry, is no part of its time.
    ended = [each["at"] for each in record.timeline if each.get("state") in TERMINAL]
    last = ended[:1] or [each["at"] for each in record.timeline[-1:]] or [record.created_at]
    return max(float(last[0]) - record.created_at, 0.0)


def utc(at: float) -> datetime:
    """Return a time in Unix seconds as a date."""
    return datetime.fromtimestamp(at, UTC)


def batch(found: Batch, *, since: Batch | None = None, seconds: float = 0) -> RenderableType:
    """Show a batch; with an earlier sight of it, also how fast it goes."""
    facts = Table.grid(padding=(0, 2))
    ended = sum(found.ended.values())
    share = f"{ended / found.expected_jobs:.0%}" if found.expected_jobs else "–"
    states = [f"{n:,} {coloured(state)}" for state, n in found.ended.items() if n]
    for name, value in (
        ("batch", escape(found.batch_id)),
        ("phase", found.standing),
        ("rows", f"{found.rows:,}"),
        ("jobs ended", f"{ended:,} of {found.expected_jobs:,} ({share})"),
        ("", ", ".join(states)),
        ("not run", f"{found.not_run:,}" if found.not_run else ""),
        ("under way", f"{found.live:,}"),
        ("credits", f"{found.spent:,g} of {found.expected_credits:,g} at list price"),
        ("rate", _rate(found, since, seconds)),
    ):
        if value:
            facts.add_row(f"[dim]{name}", value)
    reasons = [f"{count:>7,}  {escape(error)}" for error, count in sorted(found.errors.items())]
    return Group(facts, *reasons)


def batch_line(found: Batch) -> str:
    """Describe a batch in one line."""
    counts = [*found.ended.items(), ("not run", found.not_run)]
    states = "".join(f", {n:,} {state}" for state, n in counts if n)
    ended = sum(found.ended.values())
    return (
        f"batch {found.batch_id}: {found.standing}, {ended:,} of {found.expected_jobs:,} jobs "
        f"ended{states}"
    )


def _rate(found: Batch, since: Batch | None, seconds: float) -> str:
    if since is None:
        return ""
    ended = sum(found.ended.values())
    rate = (ended - sum(since.ended.values())) / max(seconds, 0.001)
    if found.done or rate <= 0:
        return f"{rate:.1f} jobs a second"
    left = timedelta(seconds=round((found.expected_jobs - ended) / rate))
    return f"{rate:.1f} jobs a second, done in {left}"


def batches_table(found: Iterable[Batch]) -> Table:
    """Show the newest batches."""
    table = _table("begun (UTC)", "batch", "phase", "rows", "jobs ended", "under way", "credits")
    for each in found:
        begun = utc(each.created_at).strftime("%m-%d %H:%M:%S")
        ended = f"{sum(each.ended.values()):,} of {each.expected_jobs:,}"
        table.add_row(
            begun, escape(each.batch_id), each.standing, f"{each.rows:,}", ended,
            f"{each.live:,}", f"{each.spent:,g}",
        )  # fmt: skip
    return table


def schedules_table(found: Iterable[Mapping[str, Any]]) -> Table:
    """Show the timetable."""
    table = _table("schedule", "cron", "timezone", "last batch", "outcome", "missed")
    for each in found:
        table.add_row(
            each["name"], each["cron"], each["timezone"], each["last_batch"] or "never",
            escape(each["last_outcome"] or ""), str(each["missed"]),
        )  # fmt: skip
    return table
