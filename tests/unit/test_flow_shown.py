"""A flow is read from the messages that Celery makes of it, and shown as the tree that it is."""

import json
from collections.abc import Iterator
from typing import Any, cast
from unittest import mock

import pytest
from celery import Celery, chain, chord, group
from celery.canvas import Signature

from tests.unit.test_show import printed
from worker.cli import show
from worker.core.contract import NOTIFY
from worker.core.errors import UnknownJob
from worker.core.job import canvas
from worker.core.job.canvas import Step
from worker.core.job.models import JobId, JobRecord, JSONObject
from worker.core.job.states import JobState
from worker.messages import watch
from worker.messages.press import pack, press

FIRST = JobId("first")


@pytest.fixture
def celery() -> Iterator[Celery]:
    with Celery(set_as_current=False, broker="memory://", backend="cache+memory://") as app:
        yield app


def pressed(celery: Celery, flow: Any) -> str:
    """Return the first message of a flow, as it is kept."""
    sent: list[tuple[str, Any, Any]] = []
    send = celery.amqp.send_task_message

    def keep(_: Any, name: str, message: Any, **options: Any) -> None:
        sent.append((name, message, options | {"declare": [], "retry": False}))

    with mock.patch.object(celery.amqp, "send_task_message", keep):
        flow.apply_async()
    name, message, options = sent[0]
    return pack(press(lambda producer: send(producer, name, message, **options)))


def lines(steps: tuple[Step, ...]) -> list[str]:
    return [f"{line}{step.operation}" for line, step in canvas.branches(steps)]


class Canvas:
    """Signatures of one application, by task name."""

    def __init__(self, celery: Celery) -> None:
        self.celery = celery

    def __call__(self, name: str, **options: Any) -> Signature[Any]:
        return self.celery.signature(name, queue="fermata", **options)

    def first(self) -> Signature[Any]:
        return self("fermata.sonic.remaster", task_id=FIRST)


@pytest.fixture
def s(celery: Celery) -> Canvas:
    return Canvas(celery)


def test_branches_stand_side_by_side_and_a_sequence_one_below_the_other(s: Canvas) -> None:
    wav = chain(s("fermata.sonic.wav"), s("fermata.sonic.midi"), app=s.celery)
    flow = s.first() | s("fermata.sonic.cover") | group([wav, s("my.task")], app=s.celery)
    assert lines(canvas.still_to_come(FIRST, pressed(s.celery, flow))) == [
        "sonic.cover", "├ sonic.wav", "│ └ sonic.midi", "└ my.task",
    ]  # fmt: skip


def test_what_follows_a_group_says_so(s: Canvas) -> None:
    header = group([s("fermata.sonic.wav"), s("fermata.sonic.midi")], app=s.celery)
    flow = s.first() | header | s("my.task") | s("my.last")
    steps = canvas.still_to_come(FIRST, pressed(s.celery, flow))
    assert lines(steps) == ["sonic.wav", "sonic.midi", "└ my.task", "  └ my.last"]
    assert [step.operation for step in steps if step.joins] == ["my.task"]


def test_a_job_of_a_group_knows_what_follows_it(s: Canvas) -> None:
    inner = chain(s("fermata.sonic.wav"), s("my.end"), app=s.celery)
    body = chain(s("my.body"), s("my.last"), app=s.celery)
    headers: list[list[Any]] = [[s.first()], [s.first() | inner]]
    for header in headers:
        flow = chord(group(header, app=s.celery), body, app=s.celery)
        steps = canvas.still_to_come(FIRST, pressed(s.celery, flow))
        assert [step.operation for step in steps if step.joins] == ["my.body"]


def test_a_link_has_no_id_before_it_is_published(s: Canvas) -> None:
    link: Any = [s("my.link").set(link=cast(Any, [s("my.second")]))]
    linked = s.first().set(link=link)
    steps = canvas.still_to_come(FIRST, pressed(s.celery, linked))
    assert lines(steps) == ["my.link", "└ my.second"]
    assert watch.Sight(steps[0], None).state == "no record"


def test_what_tells_a_url_of_the_end_is_no_part_of_the_flow(s: Canvas) -> None:
    told: Any = [s(NOTIFY)]
    last = s("fermata.sonic.wav").set(link=told)
    for flow, shown in ((s.first().set(link=told), []), (s.first() | last, ["sonic.wav"])):
        assert lines(canvas.still_to_come(FIRST, pressed(s.celery, flow))) == shown


def test_a_message_that_is_no_json_tells_nothing() -> None:
    wire = {"content-type": "application/x-yaml", "body": ""}
    assert canvas.still_to_come(FIRST, json.dumps(wire)) == ()


def test_a_message_says_whom_it_follows() -> None:
    headers = {"id": "midi", "parent_id": "wav", "root_id": "first"}
    assert canvas.place(headers) == {"after": "wav", "first": "first"}
    assert canvas.place({"id": "first", "parent_id": None, "root_id": "first"}) == {}


def test_an_empty_group_is_followed_by_nothing_of_its_own() -> None:
    empty = {"task": "celery.group", "kwargs": {"tasks": []}, "options": {}}
    assert canvas.following(FIRST, {"chain": [empty]}) == ()


# -- what is on record of it -------------------------------------------------------------------


class Records:
    """Some records, read as the stored ones are."""

    def __init__(self, *records: JobRecord, messages: dict[str, str] | None = None) -> None:
        self._records = {record.job_id: record for record in records}
        self._messages = messages or {}

    def read(self, job_id: JobId) -> JobRecord:
        try:
            return self._records[job_id]
        except KeyError:
            raise UnknownJob(job_id) from None

    def read_those(self, job_ids: list[JobId]) -> list[JobRecord]:
        return [self._records[job_id] for job_id in job_ids if job_id in self._records]

    def read_in_part(self, job_ids: list[JobId], *only: str) -> list[JobRecord]:
        return self.read_those(job_ids)

    def messages(self, job_ids: list[JobId]) -> list[str | None]:
        return [self._messages.get(job_id) for job_id in job_ids]


def record(job_id: str, operation: str, state: JobState, at: float = 1.0, **more: Any) -> JobRecord:
    return JobRecord(JobId(job_id), operation, state, at, 9.0, **more)


def following(*steps: tuple[str, str, str]) -> JSONObject:
    return {"steps": [[*step, False] for step in steps]}


def shown(records: Records, here: JobRecord) -> list[str]:
    flow = watch.flow_of(records, here)  # type: ignore[arg-type]
    sights = watch.look(records, flow)  # type: ignore[arg-type]
    return [line.rstrip() for line in printed(show.flow_table(sights)).splitlines()[1:]]


WAV = ("wav", "sonic.wav", "first")
SONG = record(FIRST, "sonic.remaster", JobState.SUCCEEDED, following=following(WAV))


def test_a_job_is_shown_with_what_it_follows_and_what_follows_it(s: Canvas) -> None:
    wav = record("wav", "sonic.wav", JobState.WAITING, after=FIRST, first=FIRST)
    flow = s("fermata.sonic.wav", task_id="wav") | s("fermata.sonic.midi", task_id="midi")
    records = Records(SONG, wav, messages={"wav": pressed(s.celery, flow)})
    assert shown(records, wav) == shown(records, SONG) == [
        "sonic.remaster  succeeded    first   0.0",
        "└ sonic.wav     waiting      wav     0.0",
        "  └ sonic.midi  not started  midi",
    ]  # fmt: skip


def test_what_will_never_run_is_shown_below_the_job_that_failed() -> None:
    rest = following(WAV, ("midi", "sonic.midi", "wav"))
    failed = record(FIRST, "sonic.remaster", JobState.FAILED, following=rest)
    assert [line.split()[-3:-1] for line in shown(Records(failed), failed)[1:]] == [
        ["not", "run"], ["not", "run"],
    ]  # fmt: skip


def test_a_job_that_nothing_told_of_stands_below_the_job_that_published_it() -> None:
    made = record("made", "sonic.midi", JobState.WAITING, after="a task", first=FIRST)
    lost = record("lost", "sonic.midi", JobState.WAITING, after="a task", first="forgotten")
    assert shown(Records(SONG, made), made)[-1].startswith("└ sonic.midi")
    assert shown(Records(lost), lost)[0].startswith("sonic.midi  waiting")


def test_the_newest_jobs_stand_below_the_first_of_their_flow() -> None:
    jobs = [
        record("midi", "sonic.midi", JobState.WAITING, 5.0, after="wav", first=FIRST),
        record("other", "sonic.bpm", JobState.WAITING, 4.0),
        record("wav", "sonic.wav", JobState.SUCCEEDED, 3.0, after=FIRST, first=FIRST),
        record("stems", "sonic.stems_full", JobState.WAITING, 2.0, after=FIRST, first=FIRST),
        record("orphan", "sonic.wav", JobState.WAITING, 1.5, after="gone", first="gone"),
        SONG,
    ]
    listed = printed(show.jobs_table(jobs, width=200)).splitlines()[1:]
    assert [line[8:28].rstrip() for line in listed] == [
        "sonic.remaster", "├ sonic.stems_full", "└ sonic.wav", "  └ sonic.midi", "sonic.bpm",
        "sonic.wav",
    ]  # fmt: skip


def test_a_flow_without_an_end_is_shown_in_part() -> None:
    chain_of_jobs = [
        record(
            f"job-{n}", "sonic.wav", JobState.SUCCEEDED,
            following=following((f"job-{n + 1}", "sonic.wav", f"job-{n}")),
        )
        for n in range(watch.MOST_STEPS + 10)
    ]  # fmt: skip
    flow = watch.flow_of(Records(*chain_of_jobs), chain_of_jobs[0])  # type: ignore[arg-type]
    assert len(flow.steps) == watch.MOST_STEPS


def test_a_group_of_any_size_is_shown_in_part_and_the_job_in_question_with_it() -> None:
    names = [f"job-{n}" for n in range(watch.MOST_STEPS + 10)]
    rest = following(*((name, "sonic.wav", FIRST) for name in names))
    first = record(FIRST, "sonic.remaster", JobState.SUCCEEDED, following=rest)
    last = record(names[-1], "sonic.wav", JobState.WAITING, after=FIRST, first=FIRST)
    flow = watch.flow_of(Records(first, last), last)  # type: ignore[arg-type]
    assert len(flow.steps) == watch.MOST_STEPS + 1
    assert flow.steps[-1].job_id == last.job_id


def test_a_sequence_may_be_longer_than_pythons_stack() -> None:
    ids = [JobId(f"job-{n}") for n in range(1_500)]
    steps = [Step(each, "sonic.wav", ids[n - 1] if n else None) for n, each in enumerate(ids)]
    assert [step for _, step in canvas.branches(steps)] == steps


def test_jobs_that_follow_one_another_in_a_circle_are_shown_once_each() -> None:
    steps = (
        Step(JobId("a"), "sonic.wav", JobId("b")),
        Step(JobId("b"), "sonic.midi", JobId("a")),
        Step(JobId("c"), "sonic.bpm", JobId("c")),
    )
    assert lines(steps) == ["sonic.wav", "└ sonic.midi", "sonic.bpm"]


def those(records: Records, *job_ids: str) -> list[str]:
    return [step.job_id for step in watch.those(records, [*map(JobId, job_ids)]).steps]  # type: ignore[arg-type]


def test_jobs_are_waited_for_and_for_one_without_a_record_those_before_it(s: Canvas) -> None:
    flow = (
        s.first() | s("fermata.sonic.wav", task_id="wav") | s("fermata.sonic.midi", task_id="midi")
    )
    song = record(FIRST, "sonic.remaster", JobState.WAITING)
    other = record("other", "sonic.bpm", JobState.WAITING)
    records = Records(song, other, messages={FIRST: pressed(s.celery, flow)})
    assert those(records, "first") == ["first"]
    assert those(records, "midi", "first", "other") == ["first", "wav", "midi", "other"]
    with pytest.raises(UnknownJob, match="midi"):
        those(records, "midi", "other")


def test_a_job_that_has_its_record_is_waited_for_alone() -> None:
    wav = record("wav", "sonic.wav", JobState.WAITING, after=FIRST, first=FIRST)
    assert those(Records(SONG, wav), "wav") == ["wav"]


def test_a_job_that_begins_while_it_is_looked_for_is_waited_for() -> None:
    class Late(Records):
        def read_those(self, job_ids: list[JobId]) -> list[JobRecord]:
            return []

    assert those(Late(SONG), "first") == ["first"]
