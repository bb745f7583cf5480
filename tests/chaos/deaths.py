"""Flows that meet a kill point, and what becomes of each: with its guard, and without it."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from celery.result import AsyncResult

from tests.chaos.mortal import Mortal
from tests.integration.flow import HELD, SETTLED, Flow, clip, completed, failed, who
from tests.system import wait_until
from worker.core.errors import SubmissionUnconfirmed

LONG = 60
"""Seconds to wait for a fact, on a busy machine."""


@dataclass(frozen=True)
class Point:
    """A point at which a process dies, the guard that saves the job, and the harm without it."""

    name: str
    where: str
    scenario: "Callable[[Run], None]"
    guard: str
    without: "Callable[[Run], None]"
    due: tuple[str, ...] = ()
    """The states in which nothing but the job's due time moves it on."""
    fails: type[Exception] | None = None
    """Whether nobody can know if the provider took the job: then it fails once, and clearly."""


class Run:
    """One scenario: a flow whose job meets the point."""

    def __init__(self, mortal: Mortal, flow: Flow, point: Point, *, guarded: bool) -> None:
        self.mortal, self.flow, self.point = mortal, flow, point
        self.guarded = guarded
        self.step = flow.note(task_id=str(uuid.uuid4()))
        self.errback = flow.errback(runs=int(point.fails is not None))
        self.then = f"then-{uuid.uuid4()}"
        """A queue that the dying worker does not read: it could run a step and die before it has
        said so. And if a child of its pool lives on, RabbitMQ gives its messages to another worker
        only after missing heartbeats."""

    def meets(self, job: Any, *, guards: Any = None) -> None:
        """Arm the point for a job; the guard in question is that of this job, or another's."""
        self.job_id: str = job.id
        self.guards_id: str = (guards or job).id
        self.mortal.arm(self.point.name, job.id)
        if not self.guarded:
            for guard in self.point.guard.split(" + "):
                mine = str(self.step.id) if guard == "one copy" else self.guards_id
                self.mortal.take_out(guard, mine)

    def enqueue(self, canvas: Any) -> None:
        self.result: AsyncResult[Any] = canvas.apply_async(link_error=self.errback)

    def dies(self) -> None:
        self.mortal.passed(self.point.name, self.job_id)

    def time_passes(self, *states: str) -> None:
        """Let the job be due in each state from which only its due time moves it on."""
        for state in states or self.point.due:
            if not self.guarded and self.mortal.due_at(self.job_id) is None:
                return
            # A lease may have ended meanwhile.
            reached = {state, *SETTLED}
            wait_until(lambda r=reached: self.flow.state(self.job_id) in r, what=f"it is {state}")
            self.mortal.time_comes(self.job_id)

    def accepted(self, job_id: str) -> int:
        return len(self.flow.accepted(job_id))


# Scenarios: from the first message until the point was passed.


def chain(run: Run) -> None:
    job, following = run.flow.job(clip()), run.flow.job()
    if run.point.fails:
        run.flow.jobs.remove(following.id)
        run.flow.expected_runs[run.step.args[-1]] = 0
    run.meets(job)
    run.enqueue(job | following | run.step)
    run.dies()


def submitted(run: Run) -> None:
    """Without the guard, the provider is silent: Celery itself does not run an ended job again."""
    job, following = run.flow.job(clip(), rule=None if run.guarded else HELD), run.flow.job()
    run.meets(job)
    run.enqueue(job | following | run.step)
    run.dies()


def plain(run: Run) -> None:
    job = run.flow.job(clip())
    run.step.set(queue=run.then)
    run.meets(job)
    run.enqueue(job | run.step)
    run.dies()
    run.mortal.worker_died(long_ago=True)
    run.mortal.reads(run.then)


def chain_watching_the_next(run: Run) -> None:
    """Without the guard, the provider is silent: Celery itself does not run an ended job again."""
    rule = None if run.guarded else HELD
    job, following = run.flow.job(clip()), run.flow.job(queue=run.then, rule=rule)
    run.meets(job, guards=following)
    run.enqueue(job | following | run.step)
    run.dies()
    run.mortal.worker_died(long_ago=True)
    run.mortal.reads(run.then)


def chord(run: Run) -> None:
    """The other job of the header has settled: a worker that dies is not submitting it."""
    job, other = run.flow.hold(), run.flow.job(clip())
    run.meets(job)
    run.enqueue(run.flow.chord([job, other], run.step))
    wait_until(lambda: run.flow.state(other.id) in SETTLED, what="the other is settled")
    run.flow.waits(job.id)
    run.flow.deliver(job.id, completed())
    run.dies()


def produced(run: Run) -> None:
    job, following = run.flow.job(clip()), run.flow.job()
    run.meets(job)
    canvas = job | following | run.step
    run.result = canvas.freeze()
    run.mortal.produce(canvas)
    run.dies()


def popped(run: Run) -> None:
    """A job that was sent by name has no record yet, so only the broker knows of it."""
    chain(run)
    run.mortal.worker_died(long_ago=True)


def step_popped(run: Run) -> None:
    """A plain step never has a record."""
    run.step["args"] = ({"job_id": "none"}, *run.step.args)
    run.meets(run.step)
    run.enqueue(run.step)
    run.dies()
    run.mortal.worker_died(long_ago=True)


def with_its_conductor(scenario: Callable[[Run], None]) -> Callable[[Run], None]:
    """The point is in a resumed leg: the conductor dies there, and its worker with it."""

    def both_die(run: Run) -> None:
        scenario(run)
        # The dead worker may have taken the next step's message already.
        run.mortal.worker_died(long_ago=True)

    return both_die


def redelivered(run: Run) -> None:
    """The whole worker is gone; long after, its message comes back all the same."""
    chain(run)
    run.mortal.worker_died(long_ago=True)
    run.flow.quiet()


def answered(run: Run) -> None:
    """The provider delivers, while the record still says that the job is being submitted."""
    chain(run)
    wait_until(lambda: run.flow.accepted(run.job_id)[0]["deliveries"], what="the delivery")


def swept(run: Run) -> None:
    jobs = [run.flow.job(clip(), rule={"webhook": "lost"}) for _ in range(3)]
    run.enqueue(run.flow.chord(jobs, run.step))
    for job in jobs:
        run.flow.waits(job.id)
    run.meets(jobs[1])
    run.mortal.redis.zadd("fermata:due", {job.id: 1 for job in jobs})
    run.mortal.worker_died()
    for job in jobs:
        run.mortal.time_comes(job.id)


def failing(run: Run) -> None:
    job = run.flow.job(clip(), rule={"outcome": "fail"})
    run.flow.expected_runs[run.step.args[-1]] = 0
    run.meets(job)
    run.enqueue(job | run.step)
    run.dies()


def last_of_its_chord(run: Run) -> None:
    """The chord's claim outlives the worker by seconds; its leg comes back at once."""
    job, other = run.flow.hold(), run.flow.job(clip())
    run.flow.expected_runs[run.step.args[-1]] = int(run.point.fails is None)
    run.meets(job)
    run.enqueue(run.flow.chord([job, other], run.step))
    wait_until(lambda: run.flow.state(other.id) in SETTLED, what="the other is settled")
    run.flow.waits(job.id)
    run.flow.deliver(job.id, failed() if run.point.fails else completed())
    run.dies()
    # Made longer, so that the claim is still there when the worker comes back, however late.
    run.mortal.redis.expire(_claim(run), 10 * LONG)
    run.mortal.worker_died(long_ago=True)
    if run.guarded:
        run.time_passes()
        wait_until(lambda: "leg_put_off" in run.mortal.log("worker"), what="the leg is put off")
        run.mortal.redis.delete(_claim(run))


def embodied(run: Run) -> None:
    """Another leg of the header, whose worker died before, then publishes the body once more."""
    job, other = run.flow.hold(), run.flow.hold()
    run.meets(job)
    run.enqueue(run.flow.chord([job, other], run.step))
    run.flow.waits(job.id)
    run.flow.waits(other.id)
    run.mortal.arm("counted", other.id)
    run.flow.deliver(other.id, completed())
    run.mortal.passed("counted", other.id)
    run.mortal.worker_died()
    run.flow.deliver(job.id, completed())
    run.dies()
    run.mortal.worker_died(long_ago=True)
    free = {None, "done"}
    wait_until(lambda: run.mortal.redis.get(_claim(run)) in free, what="the dead's claim is over")
    run.mortal.time_comes(other.id)
    wait_until(lambda: run.flow.state(other.id) in SETTLED, what="the other is settled")


def _claim(run: Run) -> str:
    """The key of Celery's claim on the chord of a run."""
    header: Any = run.result.parent
    return f"celery-taskset-meta-{header.id}.c"


def paid_directly(run: Run) -> None:
    """A paid call whose answer is its result: there is no webhook that could tell."""
    job = run.flow.job(operation="lyrics.generate")
    job.kwargs["description"] = f"a song about {job.id}"
    run.flow.expected_runs[run.step.args[-1]] = 0
    run.meets(job)
    run.enqueue(job | run.step)
    run.dies()


def costs_nothing(run: Run) -> None:
    """It ends as if nobody had died, or with the one clear failure that there can be."""
    point = run.point
    point.scenario(run)
    run.time_passes()

    if point.fails:
        with pytest.raises(point.fails):
            run.result.get(timeout=LONG)
    else:
        assert who(run.result.get(timeout=LONG))
    run.flow.quiet()
    run.flow.ends()
    assert all(run.accepted(job_id) == 1 for job_id in run.flow.jobs)


# What goes wrong without the guard.


def paid_twice(run: Run) -> None:
    wait_until(lambda: run.accepted(run.guards_id) > 1, seconds=LONG, what="it is paid twice")


def ran_twice(run: Run) -> None:
    wait_until(lambda: len(run.flow.ran(run.step)) > 1, seconds=LONG, what="it ran twice")


def never_known(run: Run) -> None:
    """There is no record, and no message: nothing can ever find the job again."""
    run.flow.quiet()
    assert (run.flow.state(run.job_id), run.mortal.due_at(run.job_id)) == (None, None)
    assert run.accepted(run.job_id) == 0


def never_runs(run: Run) -> None:
    run.flow.quiet()
    assert run.flow.ran(run.step) == []


def stands_still(run: Run) -> None:
    """It is not settled, there is no message, and it has no due time."""
    run.mortal.time_comes(run.job_id)
    run.flow.quiet()
    assert run.flow.state(run.job_id) not in SETTLED
    assert (run.flow.ran(run.step), run.flow.ran(run.errback)) == ([], [])


def never_told(run: Run) -> None:
    """The job has settled, and its chord will never end."""
    wait_until(lambda: run.flow.state(run.job_id) in SETTLED, what="it is settled")
    run.flow.quiet()
    assert run.flow.ran(run.errback) == []
    assert run.result.state == "PENDING"


def result_lost(run: Run) -> None:
    """The provider made the song and told so; the flow fails all the same."""
    run.time_passes("submitting", "unconfirmed")
    with pytest.raises(SubmissionUnconfirmed):
        run.result.get(timeout=LONG)
    run.flow.delivered(run.job_id, "song.completed")


def fails_by_accident(run: Run) -> None:
    """The flow fails for a reason that has nothing to do with the song, which is there."""
    wait_until(lambda: run.flow.ran(run.errback), seconds=LONG, what="the errback ran")
    assert AsyncResult(run.job_id, app=run.mortal.app).state == "FAILURE"
    assert run.accepted(run.job_id) == 1
