"""What a leg whose next step no broker takes says about its job: nothing."""

from unittest import mock

import pytest
from amqp.exceptions import AccessRefused
from celery.exceptions import Reject
from kombu.exceptions import OperationalError
from redis.exceptions import NoPermissionError

from worker.app.accidents import PatientBackend


@pytest.mark.parametrize("refused", [OperationalError(), NoPermissionError(), AccessRefused()])
def test_a_job_whose_next_step_is_refused_has_not_failed_and_runs_again(refused: Exception) -> None:
    celerys = mock.Mock()

    with pytest.raises(Reject) as raised:
        PatientBackend(celerys).mark_as_failure("a-job", refused)

    assert "requeue=True" in repr(raised.value)
    celerys.mark_as_failure.assert_not_called()
