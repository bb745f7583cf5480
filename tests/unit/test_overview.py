"""What people look at: which jobs match a filter, and what the counters add up to."""

import math
from typing import Any

import pytest

from worker.core import overview
from worker.core.job.models import JobId
from worker.core.job.states import LOST, JobState
from worker.core.overview import Filter, Histogram, Row
from worker.core.providers.aimusic.operations import OPERATIONS

ROW = Row(
    JobId("job-1"), "sonic.wav", JobState.FAILED, 100.0, tenant="acme", batch="songs",
    error_type="TaskFailed",
)  # fmt: skip
POLLED = next(name for name, each in OPERATIONS.items() if not each.takes_webhook)
HOUR: overview.Counts = {
    ("settled", "webhook", "succeeded", "sonic.remaster"): 8,
    ("settled", "webhook", "failed", "sonic.cover"): 1,
    ("settled", "poll", "succeeded", "sonic.remaster"): 3,
    ("settled", "poll", "succeeded", POLLED): 7,
    ("settled", "poll", "succeeded", "an operation of an earlier version"): 7,
    ("settled", "cancel", "cancelled", "sonic.remaster"): 5,
    ("wait", "10"): 4,
    ("wait", "sonic.wav", "20"): 2,
    ("wait", "+Inf"): 1,
    ("wait", "7"): 1,
    ("lag", "10"): 9,
}


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ({}, True),
        ({"state": JobState.FAILED, "operation": "sonic.wav", "tenant": "acme"}, True),
        ({"batch": "songs", "error": "TaskFailed", "since": 100.0, "until": 100.5}, True),
        ({"state": JobState.WAITING}, False),
        ({"operation": "sonic.midi"}, False),
        ({"tenant": "default"}, False),
        ({"batch": "others"}, False),
        ({"error": "OutOfCredits"}, False),
        ({"since": 100.5}, False),
        ({"until": 100.0}, False),
    ],
)
def test_a_job_matches_if_it_is_all_that_is_asked_for(
    wanted: dict[str, Any], matches: bool
) -> None:
    assert Filter(**wanted).matches(ROW) is matches


@pytest.mark.parametrize(
    ("wanted", "states"),
    [
        (Filter(), set(JobState)),
        (Filter(state=JobState.HELD), {JobState.HELD}),
        (Filter(among=LOST), LOST),
        (Filter(state=JobState.FAILED, among=LOST), {JobState.FAILED}),
        (Filter(state=JobState.HELD, among=LOST), set()),
        (Filter(error="TaskFailed"), LOST),
        (Filter(error="TaskFailed", state=JobState.HELD), set()),
    ],
)
def test_a_filter_says_in_which_states_a_job_may_stand(
    wanted: Filter, states: set[JobState]
) -> None:
    assert wanted.states == states
    assert wanted.matches(ROW) is (ROW.state in states)


def test_counters_are_added_by_the_beginning_of_their_names() -> None:
    assert overview.total(HOUR, "settled") == 31
    assert overview.total(HOUR, "settled", "webhook") == 9
    assert overview.added([HOUR, {("lag", "10"): 1}])["lag", "10"] == 10


def test_the_share_of_webhooks_is_theirs_among_webhooks_and_polls() -> None:
    found = overview.webhook_share(HOUR, OPERATIONS)
    assert (found.webhooks, found.polls, found.share) == (9, 3, 0.75)
    assert found.is_low
    assert overview.webhook_share({}, OPERATIONS).share is None


@pytest.mark.parametrize(
    ("webhooks", "polls", "is_low"), [(9, 1, False), (8, 2, True), (0, 9, False), (0, 0, False)]
)
def test_a_share_is_low_if_enough_jobs_say_so(webhooks: int, polls: int, is_low: bool) -> None:
    assert overview.WebhookShare(webhooks, polls).is_low is is_low


def test_a_histogram_is_read_over_all_operations_by_the_bounds_that_there_are() -> None:
    found = overview.histogram(HOUR, "wait", (10, 20))
    assert found.counts == {10.0: 4, 20.0: 2, math.inf: 1}
    assert found.count == 7


@pytest.mark.parametrize(("share", "seconds"), [(0.25, 15.0), (0.5, 20.0), (0.95, 20.0)])
def test_a_quantile_is_estimated_within_its_bucket(share: float, seconds: float) -> None:
    assert Histogram({10.0: 0, 20.0: 10, math.inf: 10}).quantile(share) == seconds


def test_without_an_observation_there_is_no_quantile() -> None:
    assert Histogram({10.0: 0, math.inf: 0}).quantile(0.5) is None


def test_a_day_is_read_by_tenant_the_busiest_first() -> None:
    day: overview.Counts = {
        ("settled", "succeeded", "acme"): 2,
        ("settled", "failed", "acme"): 1,
        ("settled", "expired", "acme"): 1,
        ("settled", "cancelled", "blue"): 5,
        ("settled", "succeeded"): 7,
        ("credits", "acme"): 1500,
    }
    assert overview.by_tenant(day) == [
        overview.TenantDay("blue", cancelled=5),
        overview.TenantDay("acme", succeeded=2, failed=2, credits=1.5),
    ]
