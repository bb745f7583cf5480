"""The provider is one folder: the same tests, on a provider that speaks otherwise (tests/toy).

Nothing of ``worker`` is changed for it. The tests are those of the modules they are imported from.
"""
# ruff: noqa: F401  (pytest runs what is imported)

import pytest

from tests.integration import tongue
from tests.integration.conftest import Flows
from tests.integration.test_canvas import (
    test_a_failed_header_member_fails_the_chord_once,
    test_a_failed_job_raises_the_providers_error,
    test_a_failed_member_of_a_group_leaves_the_others_alone,
    test_a_failed_parked_body_fails_the_chord,
    test_a_parked_chord_body_receives_the_list_of_results,
    test_a_parked_job_after_a_failed_one_is_never_submitted,
    test_a_parked_job_takes_the_first_clip_of_the_job_before_it,
    test_a_shape_ends_as_it_would_without_parking,
    test_the_tail_of_a_failed_chain_fails_natively,
)
from tests.integration.test_deliveries import (
    test_a_stream_sent_after_the_end_is_out_of_order_and_harmless,
    test_a_webhook_before_the_submits_answer_settles_the_job,
    test_one_delivery_ten_times_at_once_resumes_once,
    test_two_different_endings_at_once_settle_once,
    test_what_comes_after_settlement_has_no_effect,
)
from tests.integration.test_polling import (
    Started,
    start,
    test_a_failure_found_by_a_poll_is_the_providers_error,
    test_a_job_whose_webhook_does_not_come_settles_by_polling,
    test_a_refusal_for_good_fails_at_once_and_is_not_sent_again,
    test_a_song_with_one_failed_clip_is_a_partial_success,
    test_a_submit_whose_answer_is_lost_settles_by_its_webhook,
)
from tests.toy.dialect import to_toy
from tests.toy.provider import STANDARD_WEBHOOKS

pytestmark = pytest.mark.parametrize("system", ["Toy"], indirect=True, scope="session")

TOY = tongue.Tongue("toy", STANDARD_WEBHOOKS, to_toy)


@pytest.fixture(autouse=True)
def speaking_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests deliver as the toy provider would."""
    monkeypatch.setattr(tongue, "current", TOY)


@pytest.fixture(scope="module")
def slow(flows: Flows) -> dict[str, Started]:
    silent = ("webhook lost", "webhook forged", "webhook late", "partial")
    return start(flows, [*silent, "answer dropped", "answer 500", "answer unreadable"])
