"""The client for backends: what it agrees on with the workers, and what it refuses by itself."""

import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from celery.canvas import Signature

from fermata_client import Fermata, Status, StillRunning, UnknownJob, WrongCall, contract
from fermata_client.flows import ends
from fermata_client.jobs import Sent
from fermata_client.operations import FLOWS
from fermata_client.status import read_status
from tests.unit.recorded import ROOT
from worker.app import revoke
from worker.core import contract as ours
from worker.core import keys
from worker.core.batch.flows import ARCHIVE, find_flow
from worker.core.errors import InvalidRequest
from worker.core.job.lanes import TENANT, Priority, lane_of
from worker.core.job.models import JobId
from worker.engine.cancel import WAITS_SECONDS
from worker.messages import flow

FERMATA = Fermata("redis://127.0.0.1:1/0")


def test_it_agrees_with_the_workers_on_every_word() -> None:
    assert contract.ARCHIVE == ARCHIVE
    words = ("QUEUE", "SLOW_QUEUE", "TASK_PREFIX", "PRIORITY_HEADER", "TENANT_HEADER", "JOB_ID")
    for name in words:
        assert getattr(contract, name) == getattr(ours, name)
    assert contract.RECORDS == keys.RECORDS
    assert contract.CANCELLATION_SECONDS == WAITS_SECONDS
    assert contract.CANCEL_COMMAND == revoke.CANCEL_COMMAND
    assert (contract.TENANT, get_args(contract.Priority)) == (TENANT, tuple(Priority))


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_has_the_jobs_and_the_ids_that_our_own_producer_gives_it(name: str) -> None:
    then = (("sonic.wav", "sonic.bpm"), ("archive.store",), ("sonic.midi", "archive.store"))
    plan = find_flow(name).plan({}, branches=then)
    trunk, branches = flow.lay_out(JobId("job-1"), plan)
    wanted = [*trunk, *(step for branch in branches for step in branch)]
    enqueued = FERMATA.flow(name, "job-1", then=then)  # type: ignore[arg-type]
    assert [(s.job_id, s.operation, s.after) for s in enqueued.steps] == [
        (s.job_id, s.operation, s.after) for s in wanted
    ]
    assert len(ends(enqueued.steps)) == len(plan.branches) - 1


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_shares_out_its_parameters_as_our_own_producer_does(name: str) -> None:
    given = {"mv": "chirp-v5", "description": "a note", "prompt": "la"}
    wanted = find_flow(name).plan(given)
    first, second = FLOWS[name].parameters(given)  # type: ignore[index]
    assert (first, second) == (wanted.parameters, wanted.then[1] if wanted.then else {})


def test_the_archive_ends_a_branch_and_nothing_follows_it() -> None:
    with pytest.raises(WrongCall, match=r"no operation 'archive\.store'"):
        FERMATA.enqueue_flow("sonic.cover", "a clip", then=[["archive.store", "sonic.wav"]])


def test_a_misspelt_name_is_refused_with_what_was_meant() -> None:
    with pytest.raises(WrongCall, match=r"did you mean 'sonic\.remaster'"):
        FERMATA.s("sonic.remastr")  # type: ignore[arg-type]
    with pytest.raises(WrongCall, match=r"no operation 'flows\.master_pack'"):
        FERMATA.s("flows.master_pack")  # type: ignore[arg-type]
    with pytest.raises(WrongCall, match="operation or flow"):
        FERMATA.enqueue_flow("flows.nothing")  # type: ignore[arg-type]


def test_a_follow_up_of_one_job_is_refused_with_the_call_that_takes_it() -> None:
    for call in (FERMATA.s, FERMATA.enqueue):
        with pytest.raises(WrongCall, match="enqueue_flow"):
            call("sonic.cover", "a clip", then=["sonic.wav"])


@pytest.mark.parametrize("then", ["sonic.wav", None, 7, [7], [None], [[]]])
def test_follow_ups_that_are_no_list_are_refused(then: Any) -> None:
    with pytest.raises(WrongCall, match="`then` is a list"):
        FERMATA.enqueue_flow("sonic.cover", "a clip", then=then)
    with pytest.raises(WrongCall, match="`then` is a list"):
        FERMATA.flow("sonic.cover", "job-1", then=then)


@pytest.mark.parametrize(
    "lane",
    [{"priority": "urgent"}, {"tenant": "no tenant"}, {"tenant": "a" * 65}, {"tenant": 7}],
)
def test_a_lane_that_the_workers_would_refuse_is_refused_at_once(lane: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        lane_of({f"fermata_{name}": value for name, value in lane.items()})
    with pytest.raises(WrongCall, match=next(iter(lane))):
        FERMATA.s("sonic.wav", **lane)
    with pytest.raises(WrongCall):
        FERMATA.enqueue("sonic.wav", **lane)
    with pytest.raises(WrongCall):
        FERMATA.enqueue_flow("sonic.wav", **lane)


def test_what_no_message_can_hold_is_a_wrong_call_and_not_worth_trying_again() -> None:
    with pytest.raises(WrongCall, match="JSON"):
        FERMATA.enqueue("sonic.remaster", "a clip", mv=object())
    with pytest.raises(WrongCall, match="JSON"):
        FERMATA.enqueue_flow("sonic.remaster", object(), then=["sonic.wav"])


def test_the_variables_of_the_backends_own_celery_are_not_the_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/7")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://127.0.0.1:1/8")
    app = Fermata("redis://127.0.0.1:1/0", result_backend="redis://127.0.0.1:1/1").app
    assert app.connection_for_write().virtual_host == "0"
    assert app.backend.as_uri() == "redis://127.0.0.1:1/1"


def test_what_cannot_be_an_id_is_refused() -> None:
    with pytest.raises(WrongCall, match="job id"):
        FERMATA.job("no id")
    with pytest.raises(WrongCall, match="not both"):
        FERMATA.enqueue("sonic.wav", job_id="a", idempotency_key="b")


def test_an_id_may_be_a_uuid() -> None:
    name = uuid.uuid4()
    found = FERMATA.s("sonic.wav", job_id=name, tenant=name)
    assert (found.id, found.options["headers"]) == (str(name), {"fermata_tenant": str(name)})
    assert FERMATA.job(name).id == FERMATA.flow("sonic.wav", name).id == str(name)
    assert contract.job_id_of_key(name) == contract.job_id_of_key(str(name))


def test_a_broker_that_is_no_redis_needs_the_records_named() -> None:
    with pytest.raises(WrongCall, match="redis_url"):
        Fermata("amqp://127.0.0.1//")
    Fermata("amqp://127.0.0.1//", redis_url="redis://127.0.0.1/0")


def test_it_needs_nothing_but_celery_and_redis() -> None:
    code = (
        "import sys, fermata_client\n"
        "ours = {'worker', 'tasks', 'webhook_receiver', 'simulator', 'marshmallow', 'structlog',"
        " 'flask', 'requests', 'click', 'environs'}\n"
        "sys.exit(', '.join(ours & {name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    loaded = done.stderr.strip()
    assert set(filter(None, loaded.split(", "))) <= {"click"}, loaded  # Celery's own


# -- what is known of a job that has no record -------------------------------------------------


class Recorded:
    """Records in a dictionary: the state of a job, by its id."""

    def __init__(self, **states: str) -> None:
        self.states = states

    def read(self, job_ids: Sequence[str]) -> list[Status]:
        fields = [[self.states.get(each), None, None, None, None] for each in job_ids]
        return [read_status(each, stored) for each, stored in zip(job_ids, fields, strict=True)]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Fermata:
    """A client whose messages go nowhere."""
    client = Fermata("memory://", redis_url="redis://127.0.0.1:1/0", begin_seconds=0.05)
    vars(client)["_records"] = Recorded()
    monkeypatch.setattr(Signature, "apply_async", lambda *_, **__: None)
    return client


def records(client: Fermata, **states: str) -> None:
    vars(client)["_records"].states.update(states)


def test_an_id_that_nobody_knows_is_unknown_and_waiting_for_it_ends(client: Fermata) -> None:
    job = client.job("nobody")
    assert job.status().state == "unknown"
    with pytest.raises(UnknownJob, match="no record of job nobody"):
        job.wait()
    with pytest.raises(UnknownJob):
        list(job.updates())
    with pytest.raises(UnknownJob, match="after 0 s"):
        job.wait(0)


def test_what_this_client_has_sent_is_pending_until_a_worker_begins_it(client: Fermata) -> None:
    for job in (client.enqueue("sonic.wav", job_id="sent"), client.job("sent")):
        assert job.status().state == "pending"
        with pytest.raises(StillRunning, match="no worker has begun it"):
            job.wait(0.1)
    records(client, sent="waiting")
    assert client.job("sent").status().state == "waiting"


def test_what_was_seen_and_is_gone_is_unknown(client: Fermata) -> None:
    job = client.enqueue("sonic.wav", job_id="sent")
    records(client, sent="succeeded")
    job.status()
    vars(client)["_records"].states.clear()
    assert job.status().state == "unknown"


def test_what_was_sent_counts_for_a_day(client: Fermata, monkeypatch: pytest.MonkeyPatch) -> None:
    job = client.enqueue("sonic.wav")
    later = time.monotonic() + Sent.SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert job.status().state == "unknown"


def test_a_client_remembers_the_last_jobs_that_it_sent() -> None:
    sent = Sent()
    for number in range(Sent.MOST + 1):
        sent.add(f"job-{number}")
    assert ("job-0" in sent, "job-1" in sent) == (False, True)


def test_a_follow_up_is_pending_until_the_job_before_it_has_ended(client: Fermata) -> None:
    flow = client.enqueue_flow("sonic.cover", job_id="cover", then=[["sonic.wav", "sonic.midi"]])

    def states() -> list[str]:
        return [status.state for status in flow.statuses()]

    assert states() == ["pending"] * 3
    records(client, cover="waiting")
    assert states() == ["waiting", "pending", "pending"]
    records(client, cover="failed")
    assert states() == ["failed", "skipped", "skipped"]
    vars(client)["_records"].states.clear()
    assert states() == ["unknown"] * 3
    with pytest.raises(UnknownJob):
        flow.wait()


def test_a_job_that_a_worker_begins_in_time_is_not_unknown(client: Fermata) -> None:
    updates = client.job("late").updates(timeout=5)
    assert next(updates).status.state == "unknown"
    records(client, late="succeeded")
    assert next(updates).event == "settled"
