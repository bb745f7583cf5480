"""A client that is generated from ``openapi.json`` enqueues a job and follows it.

So what the document says of names, fields and types is what a backend in any language gets.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from tests import launcher
from tests.integration.desk import SECRETS, TOKENS, bearer
from tests.system import ANSWER_SECONDS, Desk, System

OPERATIONS: Final = {
    "adoptQuarantined", "archiveJob", "archiveSong", "cancelBatch", "cancelJob", "cancelJobs",
    "downloadFile", "downloadSong", "dropQuarantined", "enqueueFlow", "enqueueJob", "followJob",
    "followJobs", "getBatch", "getFlow", "getGate", "getJob", "getOverview", "getQuarantined",
    "getSong", "listBatches", "listDeliveries", "listFiles", "listJobs", "listOperations",
    "listQuarantine", "listSchedules", "listSpend", "pauseGate", "pollJob", "replayQuarantined",
    "reportBatch", "resumeGate", "retryBatch", "retryFlow", "retryJob", "retryJobs", "runSchedule",
    "submitBatch", "verifyQuarantined",
}  # fmt: skip
"""Published names: a client calls them, so none is ever renamed."""

# The generator knows no other body that is no JSON: each is a file to it.
CONFIG: Final = {
    "content_type_overrides": dict.fromkeys(
        ("text/csv", "application/x-ndjson", "application/yaml", "application/zip", "*/*"),
        "application/octet-stream",
    ),
    "post_hooks": [],
}

BACKEND: Final = """
import sys, time
from fermata_api import AuthenticatedClient
from fermata_api.api.flows import get_flow
from fermata_api.api.jobs import enqueue_job, get_job, list_jobs
from fermata_api.models import Enqueued, JobRequest, JobRequestParameters, JobState, Problem

url, token = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=token)
song = JobRequestParameters.from_dict(
    {"custom_mode": False, "gpt_description_prompt": "a calm piano piece"}
)

asked = JobRequest(operation="sonic.create_music", parameters=song, then=["sonic.wav"], pick=1)
flow = enqueue_job.sync(client=client, body=asked, idempotency_key="order-4711")
assert isinstance(flow, Enqueued), flow
again = enqueue_job.sync(client=client, body=asked, idempotency_key="order-4711")
assert again.job_id == flow.job_id
while not (stands := get_flow.sync(flow.job_id, client=client)).ended:
    time.sleep(0.2)
assert stands.succeeded, stands
first, second = (get_job.sync(step.job_id, client=client) for step in stands.steps)
assert first.state is JobState.SUCCEEDED, first
assert first.result["clips"][1]["audio_url"]
listed = list_jobs.sync(client=client, state=JobState.SUCCEEDED, operation="sonic.wav")
assert [row.job_id for row in listed.items] == [second.job_id]

wrong = enqueue_job.sync(client=client, body=JobRequest(operation="sonic.wave", then=["x"]))
assert isinstance(wrong, Problem), wrong
assert sorted(wrong.errors.to_dict()) == ["operation", "then"]
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("generated"), FERMATA_DESK_TOKENS=TOKENS) as system:
        system.worker(concurrency=4)
        yield system


@pytest.fixture(scope="module")
def desk(system: System) -> Desk:
    return system.desk()


@pytest.fixture(scope="module")
def document(desk: Desk) -> dict[str, Any]:
    answer = requests.get(
        f"{desk.url}/api/v1/openapi.json", headers=bearer("reader"), timeout=ANSWER_SECONDS
    )
    described: dict[str, Any] = answer.json()
    return described


def test_every_operation_has_its_name_for_good(document: dict[str, Any]) -> None:
    named = [
        operation.get("operationId", f"{method} {path}")
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method != "parameters"
    ]
    assert len(named) == len(set(named))
    assert set(named) == OPERATIONS


def test_a_generated_client_enqueues_a_flow_and_follows_it(
    system: System, desk: Desk, document: dict[str, Any], tmp_path: Path
) -> None:
    described, config = tmp_path / "openapi.json", tmp_path / "config.json"
    described.write_text(json.dumps(document))
    config.write_text(json.dumps(CONFIG))
    made = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", "--path", described,
         "--output-path", tmp_path / "fermata_api", "--meta", "none", "--config", config,
         "--fail-on-warning"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    environment = system.environment | {"PYTHONPATH": str(tmp_path)}
    ran = launcher.run(
        "-c", BACKEND, desk.url, SECRETS["operator"], environment=environment, folder=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
