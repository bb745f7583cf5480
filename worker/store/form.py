"""The form in which a job's record stands in its hash: text, numbers as text, and JSON."""

import json
from collections.abc import Mapping
from typing import Any

from worker.core.job.models import JobId, JobRecord, JSONObject, ProviderTaskId
from worker.core.job.states import TRANSITIONS, JobState, Turn

_COUNTERS = ("attempts", "polls", "claims", "republished", "resubmissions", "refusals")
_TURNS = frozenset(Turn)
_DOCUMENTS = ("progress", "result", "error", "late", "following")


def dump(value: Any) -> Any:
    """Write a field as its hash holds it."""
    return json.dumps(value) if isinstance(value, dict) else value


def entry(now: float, what: str, why: str) -> str:
    """Write a line of the timeline; a turn's state goes without saying."""
    said = {"at": round(now, 3), "what": what} | ({"why": why} if why else {})
    return json.dumps(said, separators=(",", ":"))


def parse(
    job_id: JobId, stored: Mapping[str, str], timeline: str | None, due_at: float | None
) -> JobRecord:
    """Read a record from its hash, and from the timeline beside it."""
    before = stored.get("timeline", "")  # where the version before had it
    documents: dict[str, JSONObject] = {n: json.loads(stored[n]) for n in _DOCUMENTS if n in stored}
    counters = {name: int(stored.get(name, 0)) for name in _COUNTERS}
    provider_task_id = stored.get("provider_task_id")
    return JobRecord(
        job_id=job_id,
        operation=stored["operation"],
        state=JobState(stored["state"]),
        created_at=float(stored["created_at"]),
        deadline_at=float(stored.get("deadline_at", stored["created_at"])),
        due_at=due_at,
        provider_task_id=ProviderTaskId(provider_task_id) if provider_task_id else None,
        clip_id=stored.get("clip_id"),
        leg=stored.get("leg", ""),
        attempts=counters["attempts"],
        polls=counters["polls"],
        claims=counters["claims"],
        republished=counters["republished"],
        resubmissions=counters["resubmissions"],
        refusals=counters["refusals"],
        poll_at=float(stored["poll_at"]) if stored.get("poll_at") else None,
        errbacks_called=tuple(map(int, filter(None, stored.get("errbacks_called", "").split(",")))),
        refused_at=float(stored["refused_at"]) if "refused_at" in stored else None,
        cancelled_by=stored.get("cancelled_by"),
        after=JobId(stored["after"]) if "after" in stored else None,
        first=JobId(stored["first"]) if "first" in stored else None,
        following=documents.get("following"),
        lane=stored.get("lane", ""),
        progress=documents.get("progress"),
        result=documents.get("result"),
        error=documents.get("error"),
        late=documents.get("late"),
        timeline=(
            *map(json.loads, before.splitlines()),
            *map(_entry, (timeline or "").splitlines()),
        ),
    )


def _entry(line: str) -> JSONObject:
    entry: JSONObject = json.loads(line)
    what = entry["what"]
    if what in _TURNS:
        entry.setdefault("state", TRANSITIONS[Turn(what)][1])
    return entry
