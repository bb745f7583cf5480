"""Every named kill point: the process dies there, and nothing is lost or paid twice.

Each point stands in the table with the guard that makes it harmless, and with what goes wrong
where that guard is taken out: the same scenario is run both ways.
"""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.chaos.deaths import (
    Point,
    Run,
    answered,
    chain,
    chain_watching_the_next,
    chord,
    costs_nothing,
    embodied,
    failing,
    fails_by_accident,
    last_of_its_chord,
    never_known,
    never_runs,
    never_told,
    paid_directly,
    paid_twice,
    plain,
    popped,
    produced,
    ran_twice,
    redelivered,
    result_lost,
    stands_still,
    step_popped,
    submitted,
    swept,
    with_its_conductor,
)
from tests.chaos.mortal import PATIENT, Mortal
from tests.integration.conftest import Flows
from tests.integration.flow import clip, outcome, who
from worker.core.errors import SubmissionUnconfirmed, TaskFailed

_P = Point
UNKNOWN: Final = SubmissionUnconfirmed
POINTS: Final = {
    point.where: point
    for point in (
        _P("recorded", "between the record and the publish",
           produced, "record", never_known, ("queued",)),
        _P("popped", "the message is popped, and its worker does not have it yet",
           popped, "note", never_known),
        _P("popped", "the same of a plain step",
           step_popped, "note", never_runs),
        _P("begun", "between the record and the POST",
           chain, "submit lease", stands_still, ("submitting",)),
        _P("posted", "between the POST and its response",
           submitted, "one submission", paid_twice),
        _P("posted by the worker", "the same of a whole worker, until Redis redelivers",
           redelivered, "one submission", paid_twice),
        _P("posted", "between the POST of a direct call and its response",
           paid_directly, "one submission", paid_twice, ("submitting",), UNKNOWN),
        _P("answered", "between the response and its record",
           answered, "claim while submitting", result_lost),
        _P("claimed", "in the receiver, when it has claimed",
           chain, "made ready", stands_still),
        _P("in hand", "in a conductor, when it has leased",
           with_its_conductor(chain), "end of the lease", stands_still, ("resuming",)),
        _P("stepped", "in the resumed leg, between the next step and the result",
           chain_watching_the_next, "one submission", paid_twice, ("resuming",)),
        _P("stepped", "the same, where the next step is a plain one",
           plain, "one copy", ran_twice, ("resuming",)),
        _P("uncounted", "in the resumed leg, between the result and its part in the chord",
           with_its_conductor(chord), "end of the lease", stands_still, ("resuming",)),
        _P("joined", "in the resumed leg, between a complete chord's claim and its body",
           last_of_its_chord, "chord claim", never_told, ("resuming",)),
        _P("embodied", "in the resumed leg, between a chord's body and the end of its claim",
           embodied, "one copy", ran_twice, ("resuming",)),
        _P("doomed", "in the resumed leg, between a failing chord's claim and its errbacks",
           last_of_its_chord, "chord claim", never_told, ("resuming",), TaskFailed),
        _P("failing", "in the resumed leg, between a failure and its errbacks",
           with_its_conductor(failing), "end of the lease", stands_still, ("resuming",),
           TaskFailed),
        _P("stored", "in the resumed leg, between the result and the settlement",
           plain, "stored result + one copy", ran_twice, ("resuming",)),
        _P("leased", "a sweep, in the middle of a batch",
           swept, "due lease", stands_still),
        _P("broker away", "nobody dies, but the broker is away for the next step",
           chain, "patience", fails_by_accident),
        _P("backend away", "nobody dies, but the result backend does not take the result",
           chord, "patience", fails_by_accident),
    )
}  # fmt: skip


IN_A_LEG: Final = [
    where
    for where, point in POINTS.items()
    if point.name in {"begun", "posted", "answered", "in hand", "stepped", "failing", "stored"}
]
"""Points in a leg: they must cost nothing on RabbitMQ either."""


@pytest.fixture(scope="module")
def mortal(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mortal]:
    folder = tmp_path_factory.mktemp("mortal")
    with Mortal(folder, rabbitmq=request.param == "RabbitMQ", **PATIENT) as mortal:
        yield mortal
        mortal.redis.close()


@pytest.fixture(scope="module")
def flows(mortal: Mortal) -> Iterator[Flows]:
    flows = Flows(mortal)
    yield flows
    flows.close()


redis = pytest.mark.parametrize("mortal", ["Redis"], indirect=True)
each_point = pytest.mark.parametrize("where", POINTS)


@redis
@each_point
def test_a_death_at_the_point_costs_nothing(mortal: Mortal, flows: Flows, where: str) -> None:
    costs_nothing(Run(mortal, flows.open(), POINTS[where], guarded=True))


@redis
@each_point
def test_without_its_guard_the_same_death_does_harm(
    mortal: Mortal, flows: Flows, where: str
) -> None:
    point = POINTS[where]
    run = Run(mortal, flows.open(), point, guarded=False)

    point.scenario(run)
    if point.without is not never_known:
        run.time_passes()

    point.without(run)


@pytest.mark.parametrize("mortal", ["RabbitMQ"], indirect=True)
@pytest.mark.parametrize("where", IN_A_LEG)
def test_a_death_in_a_leg_costs_nothing_on_rabbitmq_either(
    mortal: Mortal, flows: Flows, where: str
) -> None:
    costs_nothing(Run(mortal, flows.open(), POINTS[where], guarded=True))


@redis
def test_a_job_whose_record_redis_lost_before_the_post_is_begun_again(
    mortal: Mortal, flows: Flows
) -> None:
    """Redis was killed, and started again without its last writes."""
    flow = flows.open()
    job = flow.job(clip())
    mortal.arm("forgotten", job.id)
    result = (job | flow.note()).apply_async()
    assert who(outcome(result)) == job.id
    mortal.passed("forgotten", job.id)
    flow.ends()
    flow.paid_once()
