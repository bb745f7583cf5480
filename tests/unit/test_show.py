"""What a person sees in the terminal, of every recorded result."""

import base64
import io
import json
import zlib
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from tests.unit import recorded
from worker.batch import Batch, Phase
from worker.cli import overview, show
from worker.core import wire
from worker.core.job.canvas import Step
from worker.core.job.models import Entry, JobId, JobRecord, JSONObject, Kind, Source
from worker.core.job.states import JobState
from worker.core.overview import Row
from worker.core.providers.aimusic import results
from worker.core.providers.aimusic.operations import OPERATIONS
from worker.core.providers.aimusic.provider import AIMusic
from worker.engine.describe import record_json
from worker.messages.watch import Sight


def printed(renderable: Any, *, width: int = 200) -> str:
    written = io.StringIO()
    Console(width=width, file=written).print(renderable)
    return written.getvalue()


@pytest.mark.parametrize("case", sorted(recorded.cases("result.json")))
def test_a_job_is_shown_with_whatever_its_result_is(case: str) -> None:
    wanted = recorded.load(case, "result.json")
    body = wire.parse(recorded.answer(case).body)
    result = results.read_result(
        OPERATIONS[wanted["operation"]], body, clip_id=wanted.get("clip_id")
    )
    record = JobRecord(
        JobId("job-1"), wanted["operation"], JobState.SUCCEEDED, 1.0, 2.0, result=result
    )
    shown = printed(show.job(record))
    assert wanted["operation"] in shown
    assert not result["clips"] or "\n\nclip " in shown
    assert all(str(clip["clip_id"] or "") in shown or clip["title"] for clip in result["clips"])


def test_every_operation_is_shown_with_what_to_use_instead() -> None:
    shown = printed(show.operations_table(OPERATIONS.values()))
    assert all(name in shown for name in OPERATIONS)
    assert "retired: use sonic.create_music" in shown


SONG = {"clip_id": "c-1", "state": "succeeded", "title": "Late", "audio_url": "https://x.test/a"}
FAILED = {"type": "failed", "message": "Generation failed", "event": "song.failed"}


def ended(body: JSONObject) -> JobRecord:
    late = {"at": 3.0, "delivery_id": "d-1", "body": json.dumps(body)}
    error = {"type": "DeadlineExceeded", "message": "too slow", "details": {}}
    return JobRecord(
        JobId("job-1"), "sonic.remaster", JobState.EXPIRED, 1.0, 2.0, error=error, late=late
    )


def test_what_came_late_is_shown_with_its_links_beside_the_error() -> None:
    record = ended({"event": "song.completed", "task_id": "t-1", "data": [SONG]})
    shown = printed(show.job(record))
    assert all(word in shown for word in ("too slow", "came late", "Late", "https://x.test/a"))
    late = record_json(record, AIMusic())["late"]
    assert late["delivery_id"] == "d-1"
    assert (late["result"]["provider_task_id"], late["result"]["job_id"]) == ("t-1", "job-1")
    assert late["result"]["clips"][0]["audio_url"] == "https://x.test/a"


def test_what_came_late_and_is_no_result_is_shown_as_the_error_it_is() -> None:
    record = ended(FAILED)
    assert "TaskFailed: Generation failed" in printed(show.job(record))
    assert record_json(record, AIMusic())["late"]["error"]["type"] == "TaskFailed"


ESCAPES = "\x1b]0;owned\x07\x9b2J\u202e\ud800[red]\r\n"


def test_no_text_of_others_reaches_the_terminal_as_a_command() -> None:
    song = SONG | {"title": ESCAPES, "state": ESCAPES, "audio_url": [ESCAPES]}
    timeline = ({"at": 1.0, "what": ESCAPES, "why": ESCAPES},)
    record = JobRecord(
        JobId("job-1"), "sonic.remaster", JobState.FAILED, 1.0, 2.0, timeline=timeline,
        result={"clips": [song], "data": {ESCAPES: ESCAPES}, "partial": True},
    )  # fmt: skip
    for shown in (printed(show.job(record)), printed(show.jobs_table([record], width=200))):
        assert all(c.isprintable() or c == "\n" for c in shown)
    assert "owned" in printed(show.job(record))


def entry(body: bytes) -> Entry:
    packed = base64.b64encode(zlib.compress(body)).decode()
    headers = {"X-Webhook-Id": ESCAPES}
    return Entry("1-0", 1.0, Kind.UNREADABLE, JobId("job-1"), ESCAPES, len(body), headers, packed)


BODIES = [
    b"",
    b"\x1b[2J\x00\xff\n",
    bytes(range(256)),
    b"[" * 10_000,
    ESCAPES.encode("utf-8", "replace"),
    json.dumps({"title": ESCAPES}).encode(),
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_any_bytes_in_quarantine_can_be_shown(body: bytes) -> None:
    shown = printed(show.quarantined(entry(body))) + printed(
        show.quarantine_table([entry(body)], width=200)
    )
    assert all(c.isprintable() or c in "\n" for c in shown)


def test_json_in_quarantine_is_indented() -> None:
    assert '\n  "title": "Café"' in printed(show.quarantined(entry(b'{"title": "Caf\\u00e9"}')))


def test_a_held_job_is_shown_with_what_it_waits_for() -> None:
    turn = {"at": 1.0, "what": "hold", "state": "held", "why": "the credits left are not enough"}
    record = JobRecord(JobId("job-1"), "sonic.wav", JobState.HELD, 1.0, 2.0, timeline=(turn,))
    assert "the credits left are not enough" in printed(show.jobs_table([record], width=200))
    assert "the credits left are not enough" in printed(show.job(record))


WHY = "the provider refused it: " + "a long story about tags and lyrics, " * 4
UUIDS = [f"11111111-1111-4111-8111-{n:012}" for n in range(3)]
FAILURES = [
    JobRecord(
        JobId(job_id), "sonic.remaster", JobState.FAILED, 1.0, 2.0,
        error={"type": "RequestRefused", "message": WHY, "details": {}},
    )
    for job_id in UUIDS
]  # fmt: skip


def test_jobs_at_80_columns_are_a_line_each_with_the_whole_id() -> None:
    heading, *lines = printed(show.jobs_table(FAILURES, width=80), width=80).splitlines()
    assert heading.startswith("job id")
    assert [line.split()[:3] for line in lines] == [
        [job_id, "sonic.remaster", "failed"] for job_id in UUIDS
    ]
    assert all(len(line) <= 80 and " the provider ref" in line for line in lines)
    assert all(line.rstrip().endswith("…") for line in lines)


@pytest.mark.parametrize("width", [80, 120, 100_000])
def test_jobs_that_match_are_shown_with_their_reason_and_without_an_empty_batch(width: int) -> None:
    row = Row(JobId(UUIDS[0]), "sonic.remaster", JobState.FAILED, 1.0, error_type="TaskFailed")
    heading, line = printed(overview._rows_table([row], width), width=width).splitlines()
    assert heading.split()[-1] == "why"
    assert line.split()[-1] == "TaskFailed"
    assert "batch" not in heading
    assert ("created (UTC)" in heading) is (width > 80)
    row = replace(row, state=JobState.SUCCEEDED, error_type=None, batch="songs")
    heading, _ = printed(overview._rows_table([row], width), width=width).splitlines()
    assert "why" not in heading
    assert ("batch" in heading) is (width > 80)


def test_a_failed_step_says_why_once_and_that_more_is_left_out() -> None:
    error = {"type": "InvalidRequest", "message": "sonic.wav: mv: " + "x" * 300, "details": {}}
    record = JobRecord(JobId("job-1"), "sonic.wav", JobState.FAILED, 1.0, 2.0, error=error)
    step = Step(record.job_id, record.operation, None)
    shown = printed(show.flow_table([Sight(step, record)]), width=500)
    assert "\nsonic.wav: mv: xxx" in shown
    assert shown.endswith("x…\n")


def test_times_are_never_negative_and_a_due_time_is_in_seconds() -> None:
    timeline = ({"at": 99.999, "what": "enqueue"},)
    record = JobRecord(
        JobId("job-1"), "sonic.wav", JobState.QUEUED, 100.0, 2.0, due_at=1_763_800_000.7,
        timeline=timeline,
    )  # fmt: skip
    shown = printed(show.job(record))
    assert "-0.00" not in shown
    assert "due time" in shown
    assert "2025-11-22 08:26:40 UTC" in shown


def test_jobs_in_a_pipe_are_a_line_each_with_all_there_is_to_say() -> None:
    _, *lines = printed(show.jobs_table(FAILURES, width=100_000), width=100_000).splitlines()
    assert len(lines) == len(UUIDS)
    assert all(WHY.strip() in line for line in lines)


def test_the_quarantine_at_80_columns_is_a_line_each() -> None:
    kept = [
        Entry("1763800000000-0", 1.0, Kind.UNREADABLE, JobId(job_id), WHY, 1, {}, "")
        for job_id in UUIDS
    ]
    shown = printed(show.quarantine_table(kept, width=80), width=80).splitlines()
    assert [line.split()[:2] for line in shown[1:]] == [
        [each.entry_id, each.job_id] for each in kept
    ]


def test_why_a_job_of_a_flow_failed_stands_below_the_table() -> None:
    sight = Sight(Step(JobId(UUIDS[0]), "sonic.remaster"), FAILURES[0])
    table, why = printed(show.flow_table([sight]), width=80).split("sonic.remaster: ")
    assert UUIDS[0] in table
    assert " ".join(why.split()) == WHY.strip()


def test_each_operation_is_told_in_one_manner_a_retired_one_too() -> None:
    rows = [OPERATIONS["sonic.sample"], OPERATIONS["sonic.mashup"], OPERATIONS["riffusion.cover"]]
    shown = printed(show.operations_table(rows), width=120).splitlines()[1:]
    assert [line.split("  ")[-1].strip() for line in map(str.rstrip, shown)] == [
        "Create a song around a sample of a clip or of a file",
        "Create a song out of two clips",
        "Cover a clip in another style (retired: use sonic.cover)",
    ]


LYRICS = "[Verse]\nHold the note\n\n[Chorus]\nLet it go"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"avg_bpm": 96.5}, "avg_bpm: 96.5\n"),
        ({"persona_id": None, "ready": True}, "persona_id: null\nready: true\n"),
        ({"tags": ["slow", "waltz"]}, 'tags: ["slow", "waltz"]\n'),
        ({"lyrics": LYRICS}, "lyrics:\n  [Verse]\n  Hold the note\n\n  [Chorus]\n  Let it go\n"),
        (
            {"results": [{"title": "Held", "lyrics": LYRICS * 3}]},
            "results:\n  1:\n    title: Held\n    lyrics:\n      [Verse]\n      Hold the note\n",
        ),
    ],
)
def test_a_result_is_shown_whatever_form_its_values_have(data: JSONObject, said: str) -> None:
    record = JobRecord(
        JobId("job-1"), "sonic.bpm", JobState.SUCCEEDED, 1.0, 2.0,
        result={"clips": [], "data": data, "partial": False},
    )  # fmt: skip
    assert said in printed(show.job(record))


@pytest.mark.parametrize(
    ("phase", "jobs", "said"),
    [
        (Phase.SUBMITTING, 3, "batch songs: submitting, 3 of 5 jobs ended, 2 succeeded, 1 failed"),
        (Phase.SUBMITTED, 4, "batch songs: submitted, 3 of 5 jobs ended, 2 succeeded, 1 failed"),
        (Phase.SUBMITTED, 3,
         "batch songs: over, 3 of 5 jobs ended, 2 succeeded, 1 failed, 2 not run"),
        (Phase.CANCELLED, 3,
         "batch songs: cancelled, over, 3 of 5 jobs ended, 2 succeeded, 1 failed, 2 not run"),
    ],
)  # fmt: skip
def test_a_batch_that_is_over_says_so(phase: Phase, jobs: int, said: str) -> None:
    ended = {JobState.SUCCEEDED: 2, JobState.FAILED: 1}
    batch = Batch("songs", phase, 1.0, 2, 5, 1.0, jobs, ended, 1.0, {})
    assert show.batch_line(batch) == said
    over = "over" in said
    assert ("over" in printed(show.batches_table([batch]))) is over
    assert ("not run" in printed(show.batch(batch))) is over
    assert batch.to_json()["done"] is over


def test_a_batch_is_told_in_a_line() -> None:
    ended = {JobState.SUCCEEDED: 1200, JobState.FAILED: 3, JobState.EXPIRED: 0}
    batch = Batch("songs", Phase.SUBMITTED, 1.0, 10, 5000, 1.0, 1300, ended, 1.0, {})
    assert show.batch_line(batch) == (
        "batch songs: submitted, 1,203 of 5,000 jobs ended, 1,200 succeeded, 3 failed"
    )


def test_a_job_is_shown_with_its_price_its_batch_and_the_last_poll() -> None:
    record = JobRecord(
        JobId("job-1"), "sonic.wav", JobState.WAITING, 1.0, 2.0, lane="batch:acme", cost=1.5,
        batch="songs", source=Source.POLL, polled="HTTP 502: \x1bgone", polled_at=1_763_800_000,
    )  # fmt: skip
    shown = " ".join(printed(show.job(record)).split())
    for word in (
        "batch / acme", "batch songs", "list price 1.5 credits", "ended by poll",
        "last poll 08:26:40: HTTP 502: \\x1bgone",
    ):  # fmt: skip
        assert word in shown


def test_a_request_is_shown_and_of_a_result_its_job_alone() -> None:
    record = JobRecord(JobId("job-2"), "sonic.wav", JobState.WAITING, 1.0, 2.0)
    result = {"job_id": "job-1", "clips": [SONG]}
    shown = printed(show.job(record, (), {"source": result, "parameters": {"prompt": LYRICS}}))
    assert "request\n  source: the result of job-1\n  prompt:\n    [Verse]\n" in shown
    plain = printed(show.job(record, (), {"source": None, "parameters": {"mv": "v5"}}))
    assert "source" not in plain
    assert "\n  mv: v5\n" in plain


def test_what_comes_after_the_end_of_a_job_is_no_part_of_its_time() -> None:
    timeline: tuple[JSONObject, ...] = (
        {"at": 102.1, "what": "fail", "state": JobState.FAILED},
        {"at": 177.0, "what": "retried", "why": "the operator"},
    )
    record = JobRecord(
        JobId("job-1"), "sonic.wav", JobState.FAILED, 100.0, 200.0, timeline=timeline
    )
    assert " 2.1 " in printed(show.jobs_table([record], width=120))


def test_a_job_below_one_that_it_does_not_follow_says_that_some_are_left_out() -> None:
    first, second, third = map(JobId, ("job-1", "job-2", "job-3"))
    jobs = [
        JobRecord(third, "sonic.wav", JobState.SUCCEEDED, 3.0, 9.0, after=second, first=first),
        JobRecord(second, "sonic.midi", JobState.SUCCEEDED, 2.0, 9.0, after=first, first=first),
        JobRecord(first, "sonic.create_music", JobState.SUCCEEDED, 1.0, 9.0),
    ]
    assert "… " not in printed(show.jobs_table(jobs, width=120))
    assert "└ … sonic.wav" in printed(show.jobs_table([jobs[0], jobs[2]], width=120))
