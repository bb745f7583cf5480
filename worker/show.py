"""What a person sees in the terminal: tables of jobs, one job's timeline."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from worker.core.models import JobRecord
from worker.core.operations import Operation
from worker.core.states import JobState
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
        table.add_row(row.name, row.mode, f"{row.credits:g}", retired + escape(summary))
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
        facts.add_row(f"[dim]{name}", escape(str(value)))
    facts.add_row("[dim]state", _state(record.state))
    timeline = _table("at (UTC)", "+s", "what", "state", "why")
    for entry in record.timeline:
        at = _moment(entry["at"])
        since = f"{entry['at'] - record.created_at:.2f}"
        state = _state(entry["state"]) if "state" in entry else ""
        moment = at.strftime("%H:%M:%S.%f")[:-3]
        timeline.add_row(moment, since, escape(entry["what"]), state, escape(entry.get("why", "")))
    return Group(facts, timeline, *_ending(record))


def _ending(record: JobRecord) -> list[RenderableType]:
    if record.error:
        return [f"[red]{escape(record.error['type'])}[/]: {escape(record.error['message'])}"]
    if not record.result:
        return []
    clips = _table("clip", "state", "seconds", "audio")
    for clip in record.result["clips"]:
        title = str(clip.get("stem_type") or clip.get("title") or clip["clip_id"] or "")
        seconds, audio = clip.get("duration_seconds"), clip.get("audio_url") or ""
        clips.add_row(escape(str(title)), clip["state"], str(seconds or ""), escape(audio))
    links = [f"{n}: {v}" for n, v in record.result["data"].items() if isinstance(v, str | int)]
    return [clips, *map(escape, links)]


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "job id")
    return table


def _state(state: str) -> str:
    return f"[{_COLOURS.get(state, 'white')}]{state}[/]"


def _why(record: JobRecord) -> str:
    if record.state is JobState.HELD and record.timeline:
        return escape(record.timeline[-1].get("why", ""))
    return escape(record.error["message"])[:200] if record.error else ""


def _seconds(record: JobRecord) -> float:
    """How long a job has taken, to its last turn."""
    last = record.timeline[-1]["at"] if record.timeline else record.created_at
    return max(float(last) - record.created_at, 0.0)


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
