"""What a person sees in the terminal: tables of jobs, one job's timeline."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from worker.batch import Batch
from worker.core import protocol, results
from worker.core.errors import FermataError
from worker.core.models import JobRecord, JSONObject
from worker.core.operations import Operation, find
from worker.core.states import JobState
from worker.quarantine import Entry
from worker.watch import Sight

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


def flow_table(sights: Iterable[Sight]) -> Table:
    """Show the jobs of a flow."""
    table = _table("operation", "state", "seconds", "job id", "")
    for sight in sights:
        record = sight.record
        seconds = f"{_seconds(record):.1f}" if record else ""
        note = _why(record) if record else ""
        name = ("└ " if sight.step.after else "") + sight.step.operation
        table.add_row(name, _state(sight.state), seconds, sight.step.job_id, note)
    return table


def jobs_table(records: Iterable[JobRecord]) -> Table:
    """Show the newest jobs."""
    table = _table("created (UTC)", "operation", "state", "seconds", "job id", "")
    for record in records:
        created = _moment(record.created_at).strftime("%m-%d %H:%M:%S")
        seconds = f"{_seconds(record):.1f}"
        state = _state(record.state)
        table.add_row(created, record.operation, state, seconds, record.job_id, _why(record))
    return table


def operations_table(rows: Iterable[Operation]) -> Table:
    """Show the operations there are."""
    table = _table("operation", "mode", "credits", "")
    for row in rows:
        retired = f"[yellow]retired: use {row.retired}[/] " if row.retired else ""
        summary = row.summary.partition(";")[0].partition(". ")[0]
        table.add_row(row.name, row.mode, f"{row.credits:g}", retired + _safe(summary))
    return table


def job(record: JobRecord) -> RenderableType:
    """Show one job: what it is, its timeline, what came of it."""
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("job", record.job_id),
        ("operation", record.operation),
        ("provider task", record.provider_task_id or "unknown"),
        ("attempts / polls / claims", f"{record.attempts} / {record.polls} / {record.claims}"),
        ("next moment", str(_moment(record.due_at)) if record.due_at else "none"),
    ):
        facts.add_row(f"[dim]{name}", _safe(value))
    facts.add_row("[dim]state", _state(record.state))
    timeline = _table("at (UTC)", "+s", "what", "state", "why")
    for entry in record.timeline:
        at = _moment(entry["at"])
        since = f"{entry['at'] - record.created_at:.2f}"
        state = _state(entry["state"]) if "state" in entry else ""
        moment = at.strftime("%H:%M:%S.%f")[:-3]
        timeline.add_row(moment, since, _safe(entry["what"]), state, _safe(entry.get("why", "")))
    return Group(facts, timeline, *_ending(record.error, record.result), *_late(record))


def record_json(record: JobRecord) -> JSONObject:
    """Return a record as JSON, with what came late read as a result would be."""
    described = record.to_json()
    if record.late:
        described["late"] = record.late | read_late(record)
    return described


def read_late(record: JobRecord) -> JSONObject:
    """Read what was delivered after a job had ended: ``{"result": …}`` or ``{"error": …}``."""
    try:
        said = protocol.parse((record.late or {})["body"])
        result = results.job_result(
            record.job_id,
            find(record.operation),
            said,
            clip_id=record.clip_id,
            provider_task_id=record.provider_task_id,
        )
    except FermataError as error:
        return {"error": error.to_json()}
    return {"result": result}


def _late(record: JobRecord) -> list[RenderableType]:
    if not record.late:
        return []
    read = read_late(record)
    came = _moment(record.late["at"]).strftime("%Y-%m-%d %H:%M:%S")
    told = f"\n[yellow]This came late, at {came} UTC, when the job had ended without it:[/]"
    return [told, *_ending(read.get("error"), read.get("result"))]


def quarantine_table(entries: Iterable[Entry]) -> Table:
    """Show what is in quarantine."""
    table = _table("entry", "at (UTC)", "kind", "job id", "bytes", "why")
    for entry in entries:
        at = _moment(entry.at).strftime("%m-%d %H:%M:%S")
        row = (entry.entry_id, at, entry.kind, entry.job_id, entry.size, entry.why)
        table.add_row(*map(_safe, row))
    return table


def quarantined(entry: Entry) -> RenderableType:
    """Show one delivery: why it was kept, its headers, its body."""
    facts = Table.grid(padding=(0, 2))
    known = {"entry": entry.entry_id, "at": _moment(entry.at), "kind": entry.kind}
    known |= {"job": entry.job_id, "why": entry.why, "bytes": entry.size}
    for name, value in (*known.items(), *entry.headers.items()):
        facts.add_row(f"[dim]{_safe(name)}", _safe(value))
    return Group(facts, "", escape(printable(_readable(entry.body), keep="\n\t")))


def _readable(body: bytes) -> str:
    text = body.decode(errors="backslashreplace")
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def printable(text: str, *, keep: str = "") -> str:
    """Escape what a terminal would obey instead of print: other people wrote the text."""
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def _safe(value: object) -> str:
    return escape(printable(str(value)))


def _ending(
    error: Mapping[str, Any] | None, result: Mapping[str, Any] | None
) -> list[RenderableType]:
    if error:
        return [f"[red]{_safe(error['type'])}[/]: {_safe(error['message'])}"]
    if not result:
        return []
    clips = _table("clip", "state", "seconds", "audio")
    for clip in result["clips"]:
        title = clip.get("stem_type") or clip.get("title") or clip["clip_id"] or ""
        seconds, audio = clip.get("duration_seconds"), clip.get("audio_url") or ""
        clips.add_row(_safe(title), _safe(clip["state"]), _safe(seconds or ""), _safe(audio))
    links = [f"{n}: {v}" for n, v in result["data"].items() if isinstance(v, str | int)]
    return [clips, *map(_safe, links)]


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in {"job id", "entry"})
    return table


def _state(state: str) -> str:
    return f"[{_COLOURS.get(state, 'white')}]{state}[/]"


def _why(record: JobRecord) -> str:
    if record.state is JobState.HELD and record.timeline:
        return _safe(record.timeline[-1].get("why", ""))
    return _safe(record.error["message"][:200]) if record.error else ""


def _seconds(record: JobRecord) -> float:
    """How long a job has taken, to its last turn."""
    last = record.timeline[-1]["at"] if record.timeline else record.created_at
    return max(float(last) - record.created_at, 0.0)


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def batch(found: Batch, *, since: Batch | None = None, seconds: float = 0) -> RenderableType:
    """Show a batch; with an earlier sight of it, also how fast it goes."""
    facts = Table.grid(padding=(0, 2))
    ended = sum(found.ended.values())
    share = f"{ended / found.expected_jobs:.0%}" if found.expected_jobs else "–"
    states = [f"{n:,} {_state(state)}" for state, n in found.ended.items() if n]
    for name, value in (
        ("batch", escape(found.batch_id)),
        ("phase", found.phase),
        ("rows", f"{found.rows:,}"),
        ("jobs ended", f"{ended:,} of {found.expected_jobs:,} ({share})"),
        ("", ", ".join(states)),
        ("under way", f"{found.live:,}"),
        ("credits", f"{found.spent:,g} of {found.expected_credits:,g} at list price"),
        ("rate", _rate(found, since, seconds)),
    ):
        if value:
            facts.add_row(f"[dim]{name}", value)
    reasons = [f"{count:>7,}  {escape(error)}" for error, count in sorted(found.errors.items())]
    return Group(facts, *reasons)


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
        begun = _moment(each.created_at).strftime("%m-%d %H:%M:%S")
        ended = f"{sum(each.ended.values()):,} of {each.expected_jobs:,}"
        table.add_row(
            begun, escape(each.batch_id), each.phase, f"{each.rows:,}", ended,
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
