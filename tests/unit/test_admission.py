"""The gate before the provider: who stands in which lane, and what the operator allows."""

import pytest

from worker.core.errors import InvalidRequest
from worker.core.job.lanes import Lane, Limits, Priority, lane_of, thousandths


def test_a_job_without_headers_is_interactive_and_nobodys_in_particular() -> None:
    assert lane_of({}) == lane_of({"fermata_priority": None}) == Lane()
    assert str(Lane()) == "interactive:default"


def test_headers_choose_the_lane() -> None:
    headers = {"fermata_priority": "batch", "fermata_tenant": "acme"}
    assert lane_of(headers) == Lane(Priority.BATCH, "acme")
    assert str(lane_of(headers, slow=True)) == "batch.slow:acme"


@pytest.mark.parametrize(
    "headers",
    [
        {"fermata_priority": "urgent"},
        {"fermata_priority": 9},
        {"fermata_tenant": " "},
        {"fermata_tenant": "a:b"},
        {"fermata_tenant": "x" * 65},
        {"fermata_tenant": 7},
    ],
)
def test_a_lane_that_there_is_not_is_refused(headers: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(headers))):
        lane_of(headers)


def test_without_limits_the_gate_is_told_of_none() -> None:
    none = {"spacing": "", "burst": 1, "in_flight": "", "floor": "", "probe_seconds": 30}
    assert Limits().arguments() == none


def test_limits_are_told_as_spacing_counts_and_thousandths() -> None:
    limits = Limits(4, burst=3, in_flight=50, credit_floor=1.5, probe_seconds=2)
    told = {"spacing": 0.25, "burst": 3, "in_flight": 50, "floor": 1500, "probe_seconds": 2}
    assert limits.arguments() == told


def test_credits_are_counted_in_whole_numbers() -> None:
    assert thousandths(0.1) + thousandths(0.2) == thousandths(0.3)
