"""The gotchas of parking a Celery message, one by one; each test fails without its handling.

Above each test stands where the handling is.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import celery
import pytest
from celery.result import AsyncResult

from tests.integration.flow import GET_SECONDS, HELD, Flow, active, clip, completed, who
from tests.integration.test_canvas import for_each_clip
from tests.system import ROOT, System, stop, wait_until
from worker.core.contract import QUEUE
from worker.core.errors import DeadlineExceeded, TaskFailed
from worker.core.job.models import Event, JobId, Source
from worker.core.job.timing import submit_lease
from worker.core.providers.aimusic.operations import find
from worker.messages.press import Publisher
from worker.settings import Role, load


# 1. Handling: park (press.py) leaves expires out; a conductor looks at no expiry.
def test_a_job_that_expires_while_it_is_parked_is_still_resumed(flow: Flow) -> None:
    job = flow.job(clip(), rule={"latency_seconds": 1.3}, expires=1)

    result = (job | flow.note()).apply_async().get(timeout=GET_SECONDS)

    assert who(result) == job.id
    flow.ends()
    flow.paid_once()


def test_a_job_that_expires_before_it_runs_ends_natively_and_is_never_submitted(
    flow: Flow,
) -> None:
    job = flow.job(clip(), expires=-1)
    canvas = job | flow.note(runs=0)

    result = canvas.apply_async(link_error=flow.errback())

    with pytest.raises(DeadlineExceeded, match="expired in its queue"):
        result.get(timeout=GET_SECONDS)
    flow.ends()
    assert (flow.accepted(job.id), flow.state(job.id)) == ([], "expired")


# 1. Handling: park (press.py) counts retries from 0 again.
def test_the_resumed_leg_starts_with_all_its_retries(flow: Flow) -> None:
    job = flow.hold()

    result = job.apply_async(retries=3)
    flow.waits(job.id)

    assert flow.parked_message(job.id)["headers"]["retries"] == 0
    flow.deliver(job.id, completed())
    assert who(result.get(timeout=GET_SECONDS)) == job.id


# 2. Handling: in SubmitLeg._submit, Attempts.begin comes before Submissions.submit; and
# Turn.CLAIM in worker/core/job/states.py may start from submitting.
def test_a_job_can_be_resumed_before_its_submit_is_answered(flow: Flow) -> None:
    rule = {"webhook": "early", "submit": "slow", "submit_delay_seconds": 1}
    job = flow.job(clip(), rule=rule)

    result = (job | flow.note()).apply_async().get(timeout=GET_SECONDS)

    assert who(result) == job.id
    flow.ends()
    assert "accept" not in flow.turns(job.id)
    [task] = flow.accepted(job.id)
    flow.delivered(job.id, "song.completed")
    wait_until(lambda: flow.record(job.id).provider_task_id == task["provider_task_id"])
    assert flow.state(job.id) == "succeeded"


# 3. Handling: park (press.py) changes headers alone.
def test_the_parked_message_has_the_arguments_of_the_first(flow: Flow) -> None:
    job, source = flow.job(rule=HELD), clip()
    job["kwargs"] |= {"pick": 0, "variation_category": "subtle"}

    result = (flow.note(source) | job | flow.note()).apply_async()
    flow.waits(job.id)
    message = flow.parked_message(job.id)

    args, kwargs, embedded = message["body"]
    assert (args, kwargs) == ([source], job.kwargs)
    assert [step["task"] for step in embedded["chain"]] == ["test.note"]
    flow.deliver(job.id, completed())
    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()


# 3. Handling: Publisher.publish marks the message that it sends, not the one on the record.
def test_a_job_that_is_submitted_again_keeps_the_message_of_the_first_time(flow: Flow) -> None:
    source = clip()
    flow.system.simulator.rule(source, times=1, submit="rate_limited")
    job = flow.hold(source)

    result = (job | flow.note()).apply_async()
    wait_until(lambda: flow.state(job.id) == "queued", what="it was put off")
    before = flow.parked_message(job.id)
    flow.waits(job.id)

    assert flow.record(job.id).attempts == 2
    assert flow.parked_message(job.id) == before
    assert flow.deliver(job.id, completed()).json() == {"status": "resumed"}
    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()
    flow.paid_once()


class Pile:
    """Holds a worker back from its queue, so that all its slots then start at once."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._control = system.app.control
        self._publisher = Publisher(system.broker_url, {}, 5)

    def __enter__(self) -> Publisher:
        self._control.cancel_consumer(
            QUEUE, destination=["worker@test"], reply=True, timeout=GET_SECONDS
        )
        wait_until(lambda: not self._system.backlog()[1], what="nobody pops")
        return self._publisher

    def __exit__(self, *_: object) -> None:
        self._publisher.close()
        self._control.add_consumer(
            QUEUE, destination=["worker@test"], reply=True, timeout=GET_SECONDS
        )


# 4. Handling: SubmitLeg._in_turn: a message of a job that goes on has nothing to do.
def test_a_copy_of_a_parked_message_resumes_nothing_by_itself(flow: Flow) -> None:
    job = flow.hold()
    result = (job | flow.note()).apply_async()
    flow.waits(job.id)
    message = flow.system.readings.message(JobId(job.id)) or ""

    with Pile(flow.system) as publisher:
        for _ in range(5):
            publisher.publish(message)
    flow.quiet()

    assert (flow.state(job.id), result.state, flow.record(job.id).attempts) == (
        "waiting", "PENDING", 1,
    )  # fmt: skip
    assert flow.deliver(job.id, completed()).json() == {"status": "resumed"}
    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()
    flow.paid_once()


# 4. Handling: SubmitLeg._in_turn and the compare-and-set of Attempts.begin.
def test_copies_of_a_submit_are_accepted_once(flow: Flow) -> None:
    job = flow.job(clip())
    canvas = job | flow.note()

    with Pile(flow.system):
        results = [canvas.apply_async() for _ in range(6)]

    assert {who(r.get(timeout=GET_SECONDS)) for r in results} == {job.id}
    flow.quiet()
    flow.ends()
    flow.paid_once()


# 5. Handling: in SubmitLeg._submit, _announced comes before Submissions.submit. Here
# the failure is stored while the submit is still unanswered; a later PARKED would overwrite it.
def test_a_failure_is_not_overwritten_by_the_parked_state(flow: Flow) -> None:
    rule = {"webhook": "early", "outcome": "fail", "submit": "slow", "submit_delay_seconds": 0.5}
    job = flow.job(clip(), rule=rule)

    result = job.apply_async()
    with pytest.raises(TaskFailed):
        result.get(timeout=GET_SECONDS)

    wait_until(lambda: flow.record(job.id).provider_task_id, what="the submit was answered")
    wait_until(lambda: job.id not in active(flow.system), what="the submit leg has ended")
    assert AsyncResult(job.id, app=flow.system.app).state == "FAILURE"
    flow.ends()
    flow.paid_once()


# 6. A deadline ends the flow natively: test_polling.py (test_a_deadline_ends_the_flow_natively).


# 7. Handling: the two limits in worker/app/__init__.py and ProviderTask.from_config, the lease in
# worker/core/job/timing.py.
@pytest.mark.parametrize("timeout", ["0.5", "30", "300"])
def test_a_submit_ends_before_its_time_limits_and_they_before_its_lease(
    monkeypatch: pytest.MonkeyPatch, timeout: str
) -> None:
    monkeypatch.setenv("FERMATA_REDIS_URL", "redis://localhost/0")
    monkeypatch.setenv("FERMATA_SUBMIT_TIMEOUT_SECONDS", timeout)
    settings = load(Role.CLIENT)
    limits = _printed(
        "from tasks.sonic import remaster; import json;"
        "print(json.dumps([remaster.soft_time_limit, remaster.time_limit]))"
    )
    soft, hard = json.loads(limits)

    # An answer that trickles is read for up to twice the timeout (worker/provider.py).
    longest = settings.connect_timeout_seconds + 2 * settings.policy.submit_timeout_seconds
    assert longest < soft < hard
    assert hard < submit_lease(find("sonic.remaster"), settings.policy)


def _printed(code: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return ran.stdout


# 8. Handling: ProviderTask._require_worker.
@pytest.mark.parametrize(
    "call",
    [
        "remaster('clip', mv='chirp-v5')",
        "remaster.apply(('clip',), {'mv': 'chirp-v5'}).get()",
        "app.conf.update(task_always_eager=True) or remaster.delay('clip', mv='chirp-v5').get()",
    ],
    ids=["direct", "apply", "always eager"],
)
def test_without_a_worker_a_call_is_an_error_that_says_what_to_do(flow: Flow, call: str) -> None:
    code = (
        "from worker.app import app\nfrom tasks.sonic import remaster\n"
        f"try:\n    print({call})\nexcept Exception as e:\n    print(type(e).__name__, e)"
    )
    submits = flow.system.simulator.books()["submits"]

    said = _printed(code, **flow.system.environment)

    assert said.startswith("NeedsWorker fermata.sonic.remaster parks until a webhook comes")
    assert "apply_async" in said
    assert flow.system.simulator.books()["submits"] == submits


class Heard:
    """The task events of a system's workers, as Flower hears them."""

    def __init__(self, connection: Any, events: list[dict[str, Any]]) -> None:
        self._connection = connection
        self._events = events

    def success(self, job_id: str) -> dict[str, Any]:
        """The event of a job's success, after :meth:`of` has named it."""
        of_success = (each for each in self._events if each["type"] == "task-succeeded")
        return next(each for each in of_success if each["uuid"] == job_id)

    def of(self, job_id: str) -> list[str]:
        with contextlib.suppress(TimeoutError):
            while True:
                self._connection.drain_events(timeout=0.05)
        return [event["type"] for event in self._events if event.get("uuid") == job_id]


@pytest.fixture
def heard(system: System) -> Iterator[Heard]:
    events: list[dict[str, Any]] = []
    with system.app.connection_for_read() as connection:
        receiver = system.app.events.Receiver(connection, handlers={"*": events.append})
        with receiver.consumer_context(wakeup=False) as (listening, _, _):
            heard = Heard(listening, events)
            heard.of("nobody")  # kombu's Redis subscribes when it is first asked
            yield heard


# 9. Handling: a job settles in ProviderTask.on_success and on_failure, which Ignore skips.
def test_one_leg_starts_in_the_pool_and_only_the_last_one_succeeds(
    flow: Flow, heard: Heard
) -> None:
    job = flow.job(clip())

    job.apply_async().get(timeout=GET_SECONDS)

    flow.ends()
    wait_until(lambda: "task-succeeded" in heard.of(job.id), what="the event of the success")
    events = heard.of(job.id)
    assert (events.count("task-started"), events.count("task-succeeded")) == (1, 1)
    shown = heard.success(job.id)["result"]
    assert job.id in shown
    assert "audio_url" not in shown  # links and lyrics are nobody's business there
    assert flow.turns(job.id) == ["submit", "accept", "claim", "succeed"]


# 10. Handling: SubmitLeg._show_parked.
def test_a_parked_job_says_so_and_holds_no_slot(flow: Flow) -> None:
    job = flow.hold()

    result = job.apply_async()
    flow.waits(job.id)

    assert (result.state, result.info) == ("PARKED", {"operation": "sonic.remaster"})
    wait_until(lambda: job.id not in active(flow.system), what="the slot is free")
    flow.deliver(job.id, completed())
    assert who(result.get(timeout=GET_SECONDS)) == job.id
    assert result.state == "SUCCESS"


# 10. Handling: IsParked, which ProviderRequest hears of: without it, event
# consumers such as Flower show a parked task as STARTED.
def test_a_parked_job_tells_event_consumers(flow: Flow, heard: Heard) -> None:
    job = flow.hold()

    result = job.apply_async()
    flow.waits(job.id)
    wait_until(lambda: job.id not in active(flow.system), what="the submit leg has ended")

    wait_until(lambda: "task-parked" in heard.of(job.id), what="task-parked")
    flow.deliver(job.id, completed())
    assert who(result.get(timeout=GET_SECONDS)) == job.id


# 11. Handling: park (press.py) writes each job's message from its own request.
def test_one_signature_applied_four_times_is_four_jobs(flow: Flow) -> None:
    job = flow.job(clip())
    flow.jobs.remove(job.options.pop("task_id"))

    results = [job.apply_async() for _ in range(4)]

    flow.jobs += [result.id for result in results]
    assert [who(r.get(timeout=GET_SECONDS)) for r in results] == flow.jobs
    assert len(set(flow.jobs)) == 4
    flow.ends()
    flow.paid_once()


# 11. Handling: tasks/flows.py must drop the ids of the follow-up that it clones.
def test_a_follow_up_that_was_frozen_is_still_a_job_for_each_clip(flow: Flow) -> None:
    song, follow_up = flow.song(), flow.job()
    follow_up.freeze()
    flow.jobs.remove(follow_up.id)

    results = (song | for_each_clip(flow, follow_up)).apply_async().get(timeout=GET_SECONDS)

    flow.jobs += who(results)
    assert len(set(flow.jobs)) == 3
    flow.ends()
    flow.paid_once()


# 12. Handling: "job_id" in the result (Jobs.result): Celery reverses a nested group.
def test_results_of_a_nested_group_are_told_apart_by_their_ids(flow: Flow) -> None:
    first, second, third = (flow.job(clip()) for _ in range(3))

    nested = flow.group(first, flow.group(second, third))
    results = flow.chord(nested, flow.note()).apply_async().get(timeout=GET_SECONDS)

    flow.ends()
    by_job = {each["job_id"]: each for each in results}
    assert set(by_job) == {first.id, second.id, third.id}
    for job in (first, second, third):
        [task] = flow.accepted(job.id)
        assert by_job[job.id]["provider_task_id"] == task["provider_task_id"]


# 13. Handling: celery>=5.7 in pyproject.toml; and Records.claim publishes nothing, so that whoever
# claims subscribes to no result.
def test_a_process_that_waits_on_a_job_may_claim_it(flow: Flow) -> None:
    job = flow.hold()
    result = (job | flow.note()).apply_async()
    result.then(lambda _: None)
    flow.waits(job.id)

    event = Event(Source.WEBHOOK, body=json.dumps(completed()))
    assert flow.system.records.claim(JobId(job.id), event, now=time.time())

    assert celery.VERSION >= (5, 7)
    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()


# Handling: the parked message keeps its queue; connections are opened once per process, after
# the fork (wiring/worker_process.py). The pool of threads is the one that most other tests use.
@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_every_pool_runs_a_parked_chain(flow: Flow, heard: Heard, pool: str) -> None:
    worker = flow.system.worker(pool, pool=pool, concurrency=2, queues=pool, app="tests.canvas_app")
    try:
        first, last = flow.job(clip()), flow.job()
        canvas = first.set(queue=pool)
        for step in (flow.note(), last, flow.note()):
            canvas |= step.set(queue=pool)

        assert who(canvas.apply_async().get(timeout=GET_SECONDS)) == last.id
        flow.ends()
        flow.paid_once()
        for job in (first, last):
            assert heard.of(job.id).count("task-parked") == 1
    finally:
        stop(worker)
    assert "Traceback" not in flow.system.log(pool)
    # Any worker's conductor may resume it; its submit leg is its own queue's.
    told = f"job_submitted                  job_id={first.id}"
    assert [told in flow.system.log(name) for name in (pool, "worker")] == [True, False]
