"""What a power cut may take, by the server's ``appendfsync`` (docs/durability.md).

A killed server loses nothing: what it wrote is the kernel's to keep. So the cut is made by hand:
the server is killed, and what a power cut could have taken with it is cut off its append-only
file. With ``always`` that is nothing: the server forces each change to the disk before it answers
(that it does is its promise, and not tested here). With ``everysec`` it is all that was written
after some moment, less than a second ago.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from redis import Redis

from tests.integration.conftest import Flows
from tests.integration.flow import GET_SECONDS, Flow, clip, completed, outcome, who
from tests.system import System, wait_until
from worker.core.job.states import JobState
from worker.store.embedded import EmbeddedValkey

POLLED = {"webhook": "lost", "latency_seconds": 0.1}
SETTINGS: dict[str, Any] = {"FERMATA_POLL_FIRST_SECONDS": "6", "FERMATA_REDIS_TIMEOUT_SECONDS": "2"}


@contextmanager
def running(folder: Path, appendfsync: str) -> Iterator[Flow]:
    valkey = EmbeddedValkey(folder, appendfsync=appendfsync)
    with System(folder, redis=valkey, **SETTINGS) as system:
        system.worker(app="tests.canvas_app")
        flows = Flows(system)
        yield flows.open()
        flows.close()


def last_fsync(system: System) -> bytes:
    """Mark the moment of the last fsync in what the server writes; returns the mark."""
    mark = uuid.uuid4().hex
    with Redis.from_url(system.redis_url) as redis:
        redis.set("test:mark", mark)
    return mark.encode()


def cut_power(system: System, *, behind: bytes = b"") -> None:
    """Kill the server, drop what stands behind a mark in its append-only file, start it again."""
    system.valkey.signal(SIGKILL)
    system.valkey.wait(lambda: None)
    if behind:
        [aof] = (system.folder / "valkey" / "appendonlydir").glob("*.incr.aof")
        written = aof.read_bytes()
        aof.write_bytes(written[: written.rindex(behind) + len(behind) + len(b"\r\n")])
    system.valkey.start()


def delivered(flow: Flow) -> tuple[Any, Any]:
    """A parked job, whose result the provider will also tell when asked; not delivered yet.

    Nothing follows it: a plain step that needs Redis and runs at the cut fails by its own error.
    """
    job = flow.job(clip(), rule=POLLED)
    result = job.apply_async()
    flow.waits(job.id)
    return job, result


def test_with_always_a_delivery_that_was_answered_200_survives_the_cut(tmp_path: Path) -> None:
    with running(tmp_path, "always") as flow:
        with Redis.from_url(flow.system.redis_url) as redis:
            assert redis.config_get("appendfsync") == {"appendfsync": "always"}
        parked = [delivered(flow) for _ in range(5)]

        for job, _ in parked:
            assert flow.deliver(job.id, completed(task_id="by webhook")).status_code == 200
        cut_power(flow.system)

        results = [outcome(result) for _, result in parked]
        assert [who(result) for result in results] == [job.id for job, _ in parked]
        assert {result["provider_task_id"] for result in results} == {"by webhook"}


def test_with_everysec_deliveries_of_the_lost_second_are_found_again_by_polling(
    tmp_path: Path,
) -> None:
    with running(tmp_path, "everysec") as flow:
        parked = [delivered(flow) for _ in range(5)]
        mark = last_fsync(flow.system)

        for job, _ in parked:
            assert flow.deliver(job.id, completed(task_id="by webhook")).status_code == 200
        cut_power(flow.system, behind=mark)

        for job, result in parked:
            assert who(outcome(result)) == job.id
            wait_until(lambda j=job: flow.state(j.id) == JobState.SUCCEEDED)
            # Nobody knows of the webhook any more: the provider was asked.
            timeline = flow.record(job.id).timeline
            assert [e["why"] for e in timeline if e["what"] == "claim"] == ["poll"]
        flow.paid_once()


@pytest.mark.parametrize(("appendfsync", "submissions"), [("always", 1), ("everysec", 2)])
def test_only_with_always_a_submission_is_never_repeated_after_the_cut(
    tmp_path: Path, appendfsync: str, submissions: int
) -> None:
    with running(tmp_path, appendfsync) as flow:
        job = flow.job(clip(), rule=POLLED, queue="later")
        result = (job | flow.note()).apply_async()
        mark = last_fsync(flow.system) if appendfsync == "everysec" else b""
        flow.system.app.control.add_consumer(
            "later", reply=True, timeout=GET_SECONDS, destination=["worker@test"]
        )
        flow.waits(job.id)

        cut_power(flow.system, behind=mark)

        assert who(outcome(result)) == job.id
        assert len(flow.accepted(job.id)) == submissions


def test_with_everysec_a_job_that_began_in_the_lost_second_is_unknown_and_says_so(
    tmp_path: Path,
) -> None:
    with running(tmp_path, "everysec") as flow:
        mark = last_fsync(flow.system)
        job, _ = delivered(flow)

        cut_power(flow.system, behind=mark)

        assert flow.state(job.id) is None
        answer = flow.deliver(job.id, completed())
        assert (answer.status_code, answer.json()) == (200, {"status": "quarantined"})
        assert len(flow.accepted(job.id)) == 1
