"""Proxies in the environment: this very machine needs none, and one that is away costs nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Flows
from tests.integration.flow import GET_SECONDS, clip, who
from tests.integration.test_doctor import findings
from tests.system import System, wait_until
from worker.core.job.states import JobState

NOWHERE = "http://me:hunter2@127.0.0.1:1"
BEHIND: dict[str, Any] = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NOWHERE) | {
    "no_proxy": ""
}


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flows]:
    """The flows of a system whose every process has a proxy that is away."""
    with System(tmp_path_factory.mktemp("behind"), **BEHIND) as system:
        system.worker(app="tests.canvas_app")
        flows = Flows(system)
        yield flows
        flows.close()


def test_the_way_to_this_very_machine_leads_through_no_proxy(behind: Flows) -> None:
    flow = behind.open()
    job = flow.job(clip())
    assert who((job | flow.note()).apply_async().get(timeout=GET_SECONDS)) == job.id
    flow.ends()
    assert flow.record(job.id).attempts == 1
    found = findings(flow.system)
    assert (found["receiver"]["level"], found["API key"]["level"]) == ("ok", "ok")


def test_a_job_that_met_a_dead_proxy_backs_off_and_is_not_in_doubt(tmp_path: Path) -> None:
    elsewhere = BEHIND | {"FERMATA_PROVIDER_URL": "https://provider.invalid/api/v1"}
    with System(tmp_path, **elsewhere) as system:
        system.worker(app="tests.canvas_app")
        flows = Flows(system)
        flow = flows.open()
        job = flow.job(clip())
        job.apply_async(ignore_result=True)
        wait_until(lambda: flow.state(job.id) not in (None, JobState.SUBMITTING), what="it is sent")
        record = flow.record(job.id)
        flows.close()
        said = system.log("worker") + str(record.timeline)
    assert record.state not in {JobState.UNCONFIRMED, JobState.FAILED}
    assert "cannot reach the provider: the proxy: Connection refused" in said
    assert "hunter2" not in said
