"""Every canvas shape, with parked jobs in every position: Celery does the rest natively."""

from collections.abc import Callable
from typing import Any

import pytest
from celery.exceptions import ChordError
from celery.exceptions import TimeoutError as NoResultYet
from celery.result import AsyncResult

from tests.integration.flow import GET_SECONDS, HELD, Flow, clip, completed, ids, who
from tests.system import wait_until
from worker.core.errors import TaskFailed

FAILS = {"outcome": "fail"}

Shape = Callable[[Flow], tuple[Any, Any]]
"""Composes a canvas; returns it with the jobs that its result comes from."""

SHAPES: dict[str, Shape] = {}


def shape(name: str) -> Callable[[Shape], Shape]:
    def add(build: Shape) -> Shape:
        SHAPES[name] = build
        return build

    return add


@shape("single")
def _(flow: Flow) -> Any:
    job = flow.job(clip())
    return job, job


@shape("chain, parked first")
def _(flow: Flow) -> Any:
    job = flow.job(clip())
    return job | flow.note() | flow.note(), job


@shape("chain, parked in the middle")
def _(flow: Flow) -> Any:
    job = flow.job()
    return flow.note(clip()) | job | flow.note(), job


@shape("chain, parked last")
def _(flow: Flow) -> Any:
    job = flow.job()
    return flow.note(clip()) | flow.note() | job, job


@shape("chain, three parked in a row")
def _(flow: Flow) -> Any:
    last = flow.job()
    return flow.job(clip()) | flow.job() | last, last


@shape("chain of chains")
def _(flow: Flow) -> Any:
    last = flow.job()
    return (flow.song() | flow.note()) | (flow.job() | flow.note() | last), last


@shape("chain, an operation without a webhook in the middle")
def _(flow: Flow) -> Any:
    last = flow.job()
    return flow.song() | flow.job(operation="sonic.wav") | last, last


@shape("group")
def _(flow: Flow) -> Any:
    jobs = [flow.job(clip()), flow.job(clip()), flow.song()]
    return flow.group(*jobs), jobs


@shape("group, parked and plain")
def _(flow: Flow) -> Any:
    job, other = flow.job(clip()), flow.job(clip())
    return flow.group(job, other | flow.note()), [job, other]


@shape("nested group")
def _(flow: Flow) -> Any:
    jobs = [flow.job(clip()), flow.job(clip()), flow.job(clip())]
    return flow.group(jobs[0], flow.group(*jobs[1:])), jobs


@shape("group of chains")
def _(flow: Flow) -> Any:
    ends = [flow.job(), flow.job()]
    chains = [flow.job(clip()) | end | flow.note() for end in ends]
    return flow.group(*chains), ends


@shape("chord, parked header members")
def _(flow: Flow) -> Any:
    header = [flow.job(clip()), flow.job(clip())]
    return flow.chord(header, flow.note()), header


@shape("chord, parked and plain header members")
def _(flow: Flow) -> Any:
    header = [flow.job(clip()), flow.job(clip())]
    return flow.chord([header[0], header[1] | flow.note()], flow.note()), header


@shape("chord, header chains")
def _(flow: Flow) -> Any:
    ends = [flow.job(), flow.job()]
    header = [flow.job(clip()) | ends[0], flow.note(clip()) | ends[1] | flow.note()]
    return flow.chord(header, flow.note()), ends


@shape("chord, parked body")
def _(flow: Flow) -> Any:
    body = flow.job()
    return flow.chord([flow.job(clip()), flow.job(clip())], body), body


@shape("chord, parked body and plain header")
def _(flow: Flow) -> Any:
    body = flow.job()
    return flow.chord([flow.note(clip()), flow.note(clip())], body), body


@shape("chord, body chain")
def _(flow: Flow) -> Any:
    last = flow.job()
    header = [flow.job(clip()), flow.job(clip())]
    return flow.chord(header, flow.job() | flow.note() | last), last


@shape("chord with one member")
def _(flow: Flow) -> Any:
    body = flow.job()
    return flow.chord([flow.job(clip())], body), body


@shape("chord, body is a group")
def _(flow: Flow) -> Any:
    body = [flow.job(), flow.job()]
    return flow.chord([flow.job(clip()), flow.job(clip())], flow.group(*body)), body


@shape("group | task becomes a chord")
def _(flow: Flow) -> Any:
    header = [flow.job(clip()), flow.job(clip())]
    return flow.group(*header) | flow.note(), header


@shape("group | parked becomes a chord")
def _(flow: Flow) -> Any:
    body = flow.job()
    return flow.group(flow.job(clip()), flow.job(clip())) | body | flow.note(), body


@shape("chord in a chain")
def _(flow: Flow) -> Any:
    last = flow.job()
    chord = flow.chord([flow.job(), flow.job()], flow.job())
    return flow.job(clip()) | chord | flow.note() | last, last


@shape("nested chord in the header")
def _(flow: Flow) -> Any:
    body = flow.job()
    inner = flow.chord([flow.job(clip()), flow.job(clip())], flow.job())
    return flow.chord([inner, flow.job(clip())], body), body


@shape("nested chord in the body")
def _(flow: Flow) -> Any:
    body = flow.job()
    inner = flow.chord([flow.job(), flow.job()], body)
    return flow.chord([flow.job(clip()), flow.job(clip())], inner), body


@shape("parked | group")
def _(flow: Flow) -> Any:
    first = flow.job(clip())
    return first | flow.group(flow.note(), flow.note()), [first, first]


@shape("parked | group of parked")
def _(flow: Flow) -> Any:
    jobs = [flow.job(), flow.job()]
    return flow.job(clip()) | flow.group(*jobs), jobs


@shape("parked | group | body")
def _(flow: Flow) -> Any:
    first = flow.job(clip())
    return first | flow.group(flow.note(), flow.note()) | flow.note(), [first, first]


@shape("parked | group of parked | body | parked")
def _(flow: Flow) -> Any:
    last = flow.job()
    group = flow.group(flow.job(), flow.job() | flow.note())
    return flow.job(clip()) | group | flow.note() | last, last


@shape("link")
def _(flow: Flow) -> Any:
    job = flow.job(clip())
    job.link(flow.note())
    return job, job


@shape("link of a parked job")
def _(flow: Flow) -> Any:
    job = flow.job(clip())
    job.link(flow.job())
    return job, job


@shape("link of a group")
def _(flow: Flow) -> Any:
    job = flow.job(clip())
    job.link(flow.group(flow.note(), flow.job()))
    return job, job


@shape("link inside a chain")
def _(flow: Flow) -> Any:
    last = flow.job()
    first = flow.job(clip())
    first.link(flow.note())
    return first | last | flow.note(), last


@shape("link_error that has nothing to do")
def _(flow: Flow) -> Any:
    job = flow.job(clip())
    return (job | flow.note()).on_error(flow.errback(runs=0)), job


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_ends_as_it_would_without_parking(flow: Flow, name: str) -> None:
    canvas, jobs = SHAPES[name](flow)

    result = canvas.apply_async().get(timeout=GET_SECONDS)

    assert who(result) == ids(jobs)
    flow.ends()
    flow.paid_once(*[j for j in flow.jobs if flow.record(j).operation != "sonic.wav"])
    assert {flow.state(job_id) for job_id in flow.jobs} == {"succeeded"}


def test_a_parked_job_takes_the_first_clip_of_the_job_before_it(flow: Flow) -> None:
    first, second = flow.song(), flow.job()

    result = (first | flow.note() | second).apply_async().get(timeout=GET_SECONDS)

    assert result["operation"] == "sonic.remaster"
    [made], [used] = flow.accepted(first.id), flow.accepted(second.id)
    assert used["request"]["continue_clip_id"] == made["clip_ids"][0]
    assert [c["clip_id"] for c in result["clips"]] == used["clip_ids"]


def test_a_parked_chord_body_receives_the_list_of_results(flow: Flow) -> None:
    header, body = [flow.song(), flow.song()], flow.job()
    body.kwargs["pick"] = 2

    flow.chord(header, body).apply_async().get(timeout=GET_SECONDS)

    [used] = flow.accepted(body.id)
    made = [c for member in header for c in flow.accepted(member.id)[0]["clip_ids"]]
    assert used["request"]["continue_clip_id"] == made[2]


def test_header_members_may_ignore_their_results(flow: Flow) -> None:
    header = [flow.job(clip(), ignore_result=True), flow.job(clip(), ignore_result=True)]
    body = flow.job()

    result = flow.chord(header, body).apply_async().get(timeout=GET_SECONDS)

    assert who(result) == body.id
    flow.ends()
    flow.paid_once()
    assert [AsyncResult(m.id, app=flow.system.app).result for m in header] == [None, None]


def for_each_clip(flow: Flow, follow_up: Any) -> Any:
    name = "fermata.flows.for_each_clip"
    return flow.system.app.signature(name, (dict(follow_up),), queue="fermata")


def test_a_follow_up_fans_out_over_every_clip(flow: Flow) -> None:
    song, follow_up = flow.song(), flow.job()
    flow.jobs.remove(follow_up.options.pop("task_id"))

    results = (song | for_each_clip(flow, follow_up)).apply_async().get(timeout=GET_SECONDS)

    flow.jobs += who(results)
    assert len(set(flow.jobs)) == 3
    flow.ends()
    flow.paid_once()
    used = {flow.accepted(j)[0]["request"]["continue_clip_id"] for j in who(results)}
    assert used == set(flow.accepted(song.id)[0]["clip_ids"])


def test_a_fan_out_in_the_middle_of_a_flow_is_followed_by_its_body_once(flow: Flow) -> None:
    song, last, follow_up = flow.song(), flow.job(), flow.job()
    flow.jobs.remove(follow_up.options.pop("task_id"))
    canvas = song | for_each_clip(flow, follow_up) | flow.note() | last

    result = canvas.apply_async().get(timeout=GET_SECONDS)

    assert who(result) == last.id
    flow.ends()
    flow.paid_once()


def test_a_plain_step_after_a_job_may_retry(flow: Flow) -> None:
    job = flow.job(clip())
    result = (job | flow.note_at_last() | flow.note()).apply_async().get(timeout=GET_SECONDS)
    assert who(result) == job.id
    flow.ends()


def test_a_fan_out_of_chains_parks_in_two_stages(flow: Flow) -> None:
    song, stages = flow.song(), [flow.job(), flow.job()]
    for stage in stages:
        flow.jobs.remove(stage.options.pop("task_id"))
    follow_up = stages[0] | flow.note(runs=2) | stages[1]

    results = (song | for_each_clip(flow, follow_up)).apply_async().get(timeout=GET_SECONDS)

    assert {each["operation"] for each in results} == {"sonic.remaster"}
    assert len(set(who(results))) == 2
    flow.ends()
    flow.paid_once(song.id, *who(results))


def test_the_resumed_message_keeps_stamps_headers_priority_and_ids(flow: Flow) -> None:
    held = flow.job(rule=HELD, priority=3, headers={"tenant": "acme"})
    first = flow.note(clip(), task_id=clip())
    canvas = first | held | flow.note()
    canvas.stamp(batch="b7")

    result = canvas.apply_async()
    flow.waits(held.id)
    message = flow.parked_message(held.id)

    headers = message["headers"]
    assert (headers["id"], headers["task"]) == (held.id, "fermata.sonic.remaster")
    assert (headers["root_id"], headers["parent_id"]) == (first.id, first.id)
    assert headers["stamped_headers"] == ["batch"]
    assert headers["stamps"] == {"batch": "b7"}
    assert headers["tenant"] == "acme"
    assert message["properties"]["priority"] == 3
    assert flow.deliver(held.id, completed()).json() == {"status": "resumed"}
    assert who(result.get(timeout=GET_SECONDS)) == held.id
    flow.ends()


def test_root_and_parent_ids_survive_two_parks(flow: Flow) -> None:
    first, second, last = flow.job(clip()), flow.job(), flow.job(rule=HELD)

    (first | second | last).apply_async()
    flow.waits(last.id)
    headers = flow.parked_message(last.id)["headers"]

    assert (headers["root_id"], headers["parent_id"]) == (first.id, second.id)
    flow.deliver(last.id, completed())
    flow.ends()


def test_a_failed_job_raises_the_providers_error(flow: Flow) -> None:
    job, errback = flow.job(clip(), rule=FAILS), flow.errback()

    result = job.apply_async(link_error=errback, link=flow.note(runs=0))
    with pytest.raises(TaskFailed, match="Generation failed") as raised:
        result.get(timeout=GET_SECONDS)

    assert raised.value.refunded is True
    assert result.state == "FAILURE"
    flow.ends()
    flow.paid_once()
    assert flow.ran(errback) == ["TaskFailed"]
    assert flow.state(job.id) == "failed"
    assert (flow.record(job.id).error or {})["details"]["refunded"] is True


@pytest.mark.parametrize("attach", ["apply_async", "link_error", "on_error"])
def test_the_tail_of_a_failed_chain_fails_natively(flow: Flow, attach: str) -> None:
    errback, job, tail = flow.errback(), flow.job(rule=FAILS), flow.note(runs=0, task_id=clip())
    canvas = flow.note(clip()) | job | flow.note(runs=0) | tail
    options: dict[str, Any] = {"link_error": errback} if attach == "apply_async" else {}
    if not options:
        getattr(canvas, attach)(errback)

    result = canvas.apply_async(**options)
    with pytest.raises(TaskFailed, match="Generation failed"):
        result.get(timeout=GET_SECONDS)

    flow.ends()
    flow.paid_once()
    assert (result.id, result.state) == (tail.id, "FAILURE")
    assert AsyncResult(job.id, app=flow.system.app).state == "FAILURE"
    assert flow.ran(errback) == ["TaskFailed"]


def test_a_parked_job_after_a_failed_one_is_never_submitted(flow: Flow) -> None:
    job, tail = flow.job(clip(), rule=FAILS), flow.job()
    flow.jobs.remove(tail.id)

    result = (job | tail).apply_async()
    with pytest.raises(TaskFailed):
        result.get(timeout=GET_SECONDS)

    flow.ends()
    assert (result.id, result.state) == (tail.id, "FAILURE")
    assert (flow.accepted(tail.id), flow.state(tail.id)) == ([], None)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failed_header_member_fails_the_chord_once(flow: Flow, failing: int) -> None:
    rules = [FAILS if nth < failing else None for nth in range(3)]
    header = [flow.job(clip(), rule=rule) for rule in rules]
    body, errback = flow.note(runs=0), flow.errback()
    body.link_error(errback)

    result = flow.chord(header, body).apply_async()
    with pytest.raises(TaskFailed, match="Generation failed"):
        result.get(timeout=GET_SECONDS)

    wait_until(result.ready, what="the body has failed, too")
    assert (result.state, type(result.result)) == ("FAILURE", ChordError)
    flow.ends()
    flow.paid_once()
    assert flow.ran(errback) == ["ChordError"]


def test_a_failed_parked_body_fails_the_chord(flow: Flow) -> None:
    body, errback = flow.job(rule=FAILS), flow.errback()
    body.link_error(errback)

    result = flow.chord([flow.job(clip()), flow.job(clip())], body).apply_async()
    with pytest.raises(TaskFailed, match="Generation failed"):
        result.get(timeout=GET_SECONDS)

    flow.ends()
    flow.paid_once()
    assert flow.ran(errback) == ["TaskFailed"]


def test_a_failed_member_of_a_group_leaves_the_others_alone(flow: Flow) -> None:
    good, bad = flow.job(clip()), flow.job(clip(), rule=FAILS)

    result = flow.group(good | flow.note(), bad | flow.note(runs=0)).apply_async()
    with pytest.raises(TaskFailed, match="Generation failed"):
        result.get(timeout=GET_SECONDS)

    flow.ends()
    flow.paid_once()
    assert {good.id: flow.state(good.id), bad.id: flow.state(bad.id)} == {
        good.id: "succeeded",
        bad.id: "failed",
    }
    assert who(result.results[0].get(timeout=GET_SECONDS)) == good.id


def _group_after(flow: Flow, first: Any) -> Any:
    result = (first | flow.group(flow.note(runs=0), flow.note(runs=0))).apply_async()
    wait_until(lambda: AsyncResult(first.id, app=flow.system.app).state == "FAILURE")
    return result


@pytest.mark.parametrize("kind", ["parked", "plain"])
def test_a_group_after_a_failed_step_stays_pending_as_it_does_natively(
    flow: Flow, kind: str
) -> None:
    """Celery stores no failure for the members of a group; parking makes that no worse.

    Waiting on the group hangs until its timeout; the way out is ``result.parent``.
    """
    wrong = flow.system.app.signature("test.note", queue="fermata", task_id=clip())
    first = flow.job(clip(), rule=FAILS) if kind == "parked" else wrong

    result = _group_after(flow, first)

    with pytest.raises(NoResultYet):
        result.get(timeout=0.3)
    assert [member.state for member in result.results] == ["PENDING", "PENDING"]
    with pytest.raises(TaskFailed if kind == "parked" else TypeError):
        result.parent.get(timeout=GET_SECONDS)
    flow.ends()


def test_the_records_of_a_flow_say_what_follows_what(flow: Flow) -> None:
    first, second, note = flow.hold(), flow.job(), flow.note()
    result = (first | second | note).apply_async()
    flow.waits(first.id)
    flow.deliver(first.id, completed())
    assert who(result.get(timeout=GET_SECONDS)) == second.id
    flow.ends()

    before, after = flow.record(first.id), flow.record(second.id)

    assert (before.after, before.first) == (None, None)
    assert before.following == {"steps": [[second.id, "sonic.remaster", first.id, False]]}
    assert (after.after, after.first) == (first.id, first.id)
    assert after.following == {"steps": [[result.id, "test.note", second.id, False]]}


def test_a_job_that_was_sent_by_name_says_what_it_follows(flow: Flow) -> None:
    job = flow.job(clip())
    job.apply_async(parent_id="their-step", root_id="their-flow").get(timeout=GET_SECONDS)
    flow.ends()
    assert (flow.record(job.id).after, flow.record(job.id).first) == ("their-step", "their-flow")
