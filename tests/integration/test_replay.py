"""Quarantine and lateness: nothing authentic is dropped, and it can be used after all."""

import base64
import json
import subprocess
import time
import uuid
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from celery.result import AsyncResult

from tests.integration.flow import (
    GET_SECONDS,
    Flow,
    completed,
    failed,
    raw,
    signed,
    streaming,
)
from tests.job import record_keys
from tests.system import SIGNING_KEY, System, wait_until
from worker.core import keys
from worker.core.errors import DeadlineExceeded, InvalidRequest, TaskFailed
from worker.core.job.models import Entry, JobId, Kind
from worker.core.job.states import Turn
from worker.core.overview import Filter
from worker.core.providers import chosen
from worker.core.providers.aimusic.operations import find
from worker.engine.adopt import Adoption
from worker.store.lists import Lists
from worker.store.quarantine import Quarantine
from worker.store.readings import Readings
from worker.store.records import Records

NOW = 1_763_800_000.0


def fermata(system: System, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return system.fermata("quarantine", *arguments, **settings)


def replay(system: System, *entries: str, **settings: str) -> tuple[int, list[dict[str, Any]]]:
    ran = fermata(system, "replay", *entries, "--json", **settings)
    assert ran.stdout, ran.stderr
    return ran.returncode, json.loads(ran.stdout)


def orphan(flow: Flow, content: Any = None, job_id: str = "") -> Entry:
    """Deliver for a job that has no record; returns what was kept."""
    job_id = job_id or str(uuid.uuid4())
    answer = flow.deliver(job_id, completed() if content is None else content)
    assert (answer.status_code, answer.json()) == (200, {"status": "quarantined"})
    [entry] = flow.entries(job_id)
    return entry


def kept_of(flow: Flow, job_id: str, content: Any) -> Entry:
    """Put a delivery into quarantine that an older version could not read."""
    body = raw(content)
    kept = Quarantine(flow.redis)
    headers = signed(job_id, body, age_seconds=86400)
    return kept.read(
        kept.keep(Kind.UNREADABLE, JobId(job_id), headers, body, "not understood", now=NOW)
    )


@pytest.mark.parametrize("content", [completed, failed])
def test_an_end_of_an_unknown_job_is_an_orphan_and_creates_no_record(
    flow: Flow, content: Callable[[], Any]
) -> None:
    entry = orphan(flow, content())
    assert entry.kind == Kind.ORPHAN
    assert "X-Webhook-Signature" in entry.headers
    assert flow.state(entry.job_id) is None
    assert not flow.redis.exists(keys.job(entry.job_id))


def test_an_unreadable_delivery_of_an_unknown_job_is_kept_too(flow: Flow) -> None:
    entry = orphan(flow, b"song.completed")
    assert (entry.kind, entry.body) == (Kind.UNREADABLE, b"song.completed")
    assert flow.state(entry.job_id) is None


def test_what_can_be_read_now_resumes_the_job_that_still_waits(flow: Flow) -> None:
    job = flow.hold()
    result = (job | flow.note()).apply_async()
    flow.waits(job.id)
    entry = kept_of(flow, job.id, completed(task_id="replayed"))

    code, [tried] = replay(flow.system, entry.entry_id)

    assert (code, tried["became"]) == (0, "resumed")
    assert result.get(timeout=GET_SECONDS)["provider_task_id"] == "replayed"
    flow.ends()
    assert "replayed" in flow.turns(job.id)
    assert flow.entries(job.id) == []


def test_a_replay_for_a_job_that_succeeded_is_noted_and_the_entry_has_done_its_work(
    flow: Flow,
) -> None:
    job = flow.song()
    job.apply_async().get(timeout=GET_SECONDS)
    flow.ends()
    before = flow.record(job.id)
    entry = kept_of(flow, job.id, completed())

    assert replay(flow.system, entry.entry_id)[1][0]["became"] == "without effect"

    after = flow.record(job.id)
    assert (after.state, after.result, after.late) == (before.state, before.result, None)
    assert flow.turns(job.id)[-2:] == ["replayed", "song.completed again"]
    assert flow.entries(job.id) == []


def test_what_can_still_not_be_used_stays_with_the_reason(flow: Flow) -> None:
    lost, unreadable = orphan(flow), orphan(flow, b"{")
    code, tried = replay(flow.system, lost.entry_id, unreadable.entry_id)
    assert (code, [each["became"] for each in tried]) == (1, [None, None])
    assert "no job" in tried[0]["why"]
    assert "not JSON" in tried[1]["why"]
    assert flow.entries(lost.job_id) == [lost]
    assert flow.entries(unreadable.job_id) == [unreadable]


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields | {"body": kept_body(raw(completed(task_id="forged")))},
        lambda fields: fields | {"job_id": str(uuid.uuid4())},
        lambda fields: fields | {"headers": fields["headers"].replace('stamp": "1', 'stamp": "2')},
        lambda fields: fields | {"headers": "{}"},
        lambda fields: fields | {"body": "damaged"},
    ],
    ids=["body", "job", "timestamp", "no headers", "damaged"],
)
@pytest.mark.parametrize("command", ["replay", "adopt"])
def test_an_entry_that_was_changed_is_refused(flow: Flow, command: str, change: Any) -> None:
    entry = orphan(flow)
    redis: Any = flow.redis
    [[_, fields]] = redis.xrange(keys.QUARANTINE, entry.entry_id, entry.entry_id)
    forged = redis.xadd(keys.QUARANTINE, change(fields))
    more = ["sonic.remaster"] if command == "adopt" else []

    ran = fermata(flow.system, command, forged, *more)

    assert ran.returncode == 1, ran.stderr
    assert "stays: X-Webhook-" in ran.stdout or "stays: entry " in ran.stdout
    assert "Traceback" not in ran.stderr
    assert flow.state(entry.job_id) is None
    flow.redis.xdel(keys.QUARANTINE, forged)


def kept_body(body: bytes) -> str:
    return base64.b64encode(zlib.compress(body)).decode()


def test_a_delivery_of_a_retired_signing_key_is_refused(flow: Flow) -> None:
    entry = orphan(flow)
    key = {"FERMATA_SIGNING_KEYS": "m7QhXb0PZqv7LwY2cRn8sUe6hDf3aGm2"}
    code, [tried] = replay(flow.system, entry.entry_id, **key)
    assert (code, tried["became"]) == (1, None)
    assert "X-Webhook-Signature" in tried["why"]


def test_all_is_every_entry(tmp_path_factory: pytest.TempPathFactory, flow: Flow) -> None:
    entries = [orphan(flow), orphan(flow)]
    listed = {tried["entry_id"] for tried in replay(flow.system, "--all")[1]}
    assert {entry.entry_id for entry in entries} <= listed


# -- adoption ---------------------------------------------------------------------------------


def test_an_adopted_orphan_is_a_job_that_succeeded_and_its_result_can_be_got(flow: Flow) -> None:
    job = flow.hold()
    job.apply_async()
    flow.waits(job.id)
    flow.redis.delete(*record_keys(job.id), f"celery-task-meta-{job.id}")
    entry = orphan(flow, completed(task_id="t-1"), job.id)

    ran = fermata(flow.system, "adopt", entry.entry_id, "sonic.remaster")

    assert ran.returncode == 0, ran.stderr
    assert "succeeded" in ran.stdout
    record = flow.record(job.id)
    assert (record.state, record.operation, record.due_at) == ("succeeded", "sonic.remaster", None)
    assert entry.entry_id in record.timeline[0]["why"]
    assert flow.redis.ttl(keys.job(job.id)) > 0
    result: Any = AsyncResult(job.id, app=flow.system.app).get(timeout=GET_SECONDS)
    assert result == record.result
    assert (result["provider_task_id"], result["clips"][0]["title"]) == ("t-1", "Delivered")
    assert flow.entries(job.id) == []
    assert flow.deliver(job.id, completed()).json() == {"status": "without effect"}


def test_an_adopted_orphan_is_a_job_of_the_tenant_that_is_named(flow: Flow) -> None:
    entry = orphan(flow)
    wrong = fermata(flow.system, "adopt", entry.entry_id, "sonic.remaster", "--tenant", "a:b")
    assert (wrong.returncode, "fermata_tenant must be 1 to 64 letters" in wrong.stdout) == (1, True)
    ran = fermata(flow.system, "adopt", entry.entry_id, "sonic.remaster", "--tenant", "acme")
    assert ran.returncode == 0, ran.stderr
    [row] = [
        row
        for row in Lists(flow.redis).page(Filter(tenant="acme"), own=True).rows
        if row.job_id == entry.job_id
    ]
    assert row.tenant == "acme"


def test_an_entry_is_verified_again_and_nothing_is_changed(flow: Flow) -> None:
    entry = orphan(flow)
    ran = fermata(flow.system, "verify", entry.entry_id)
    assert ran.returncode == 0, ran.stderr
    assert "The signature is right. It can be read: song.completed, the end of a job." in ran.stdout
    key = {"FERMATA_SIGNING_KEYS": "m7QhXb0PZqv7LwY2cRn8sUe6hDf3aGm2"}
    refused = fermata(flow.system, "verify", entry.entry_id, **key)
    assert refused.returncode == 1
    assert "X-Webhook-Signature" in refused.stderr
    assert flow.entries(entry.job_id) == [entry]
    assert flow.state(entry.job_id) is None


def test_an_adopted_orphan_that_failed_raises_what_it_failed_with(flow: Flow) -> None:
    entry = orphan(flow, failed())
    ran = fermata(flow.system, "adopt", entry.entry_id, "sonic.remaster")
    assert (ran.returncode, "failed" in ran.stdout) == (0, True), ran.stderr
    assert (flow.record(entry.job_id).error or {})["type"] == "TaskFailed"
    with pytest.raises(TaskFailed, match="Generation failed"):
        AsyncResult(entry.job_id, app=flow.system.app).get(timeout=GET_SECONDS)


def test_adoption_leaves_a_result_alone_that_is_still_there(flow: Flow) -> None:
    job = flow.song()
    first = job.apply_async().get(timeout=GET_SECONDS)
    flow.ends()
    flow.redis.delete(*record_keys(job.id))
    entry = orphan(flow, completed(), job.id)
    assert fermata(flow.system, "adopt", entry.entry_id, "sonic.create_music").returncode == 0
    assert AsyncResult(job.id, app=flow.system.app).get(timeout=GET_SECONDS) == first
    wait_until(lambda: flow.state(job.id) == "succeeded", what="the job has settled again")


@pytest.mark.parametrize("content", [completed, failed])
def test_a_job_that_gets_a_record_meanwhile_is_not_adopted(
    flow: Flow, content: Callable[[], Any]
) -> None:
    entry, records = orphan(flow, content()), Records(flow.redis)

    def answer(job_id: JobId, _: Any) -> None:
        """Meanwhile, the job's own message comes after all."""
        fields = {"operation": "sonic.remaster"}
        records.turn(job_id, Turn.ENQUEUE, now=NOW, due_at=None, fields=fields)

    adoption = Adoption(
        records=records,
        readings=Readings(flow.redis),
        provider=chosen(),
        answer=answer,
        signing_keys=[SIGNING_KEY],
        retention_seconds=60,
        clock=time.time,
    )
    with pytest.raises(InvalidRequest, match="has a record"):
        adoption.adopt(entry, find("sonic.remaster"))
    assert flow.state(entry.job_id) == "queued"


def test_only_an_end_without_a_record_is_adopted_and_only_as_what_it_can_be(flow: Flow) -> None:
    job = flow.hold()
    job.apply_async()
    flow.waits(job.id)
    attempts = [
        (kept_of(flow, job.id, completed()), "sonic.remaster", "replay the entry instead"),
        (orphan(flow), "sonic.stems_full", "takes no webhook"),
        (orphan(flow, b"{"), "sonic.remaster", "not JSON"),
        (kept_of(flow, "nobody", streaming()), "sonic.remaster", "song.streaming"),
        (orphan(flow, completed(data=[{"state": "succeeded"}])), "sonic.remaster", "without a res"),
    ]
    for entry, operation, why in attempts:
        ran = fermata(flow.system, "adopt", entry.entry_id, operation)
        assert (ran.returncode, why in ran.stdout) == (1, True), ran.stdout + ran.stderr
        assert flow.entries(entry.job_id) == [entry]
        assert flow.state(entry.job_id) == ("waiting" if entry.job_id == job.id else None)
    assert fermata(flow.system, "adopt", attempts[1][0].entry_id, "sonic.nope").returncode == 2


# -- looking and dropping ---------------------------------------------------------------------


def test_entries_are_listed_and_shown_for_people_and_programs(flow: Flow) -> None:
    entry = orphan(flow, b'{"title": "\x1b[2J", "x": "caf\xc3\xa9"')
    listed = fermata(flow.system, "list")
    shown = fermata(flow.system, "show", entry.entry_id)
    for ran in (listed, shown):
        assert ran.returncode == 0, ran.stderr
        assert all(word in ran.stdout for word in (entry.entry_id, entry.job_id, "unreadable"))
        assert all(c.isprintable() or c == "\n" for c in ran.stdout)
    assert "café" in shown.stdout
    assert "X-Webhook-Signature" in shown.stdout
    found = json.loads(fermata(flow.system, "list", "--json", "--limit", "1000").stdout)
    assert entry.entry_id in [each["entry_id"] for each in found]
    whole = json.loads(fermata(flow.system, "show", entry.entry_id, "--json").stdout)
    assert kept_body(entry.body) == entry.packed
    assert (whole["body_base64"], whole["size"]) == (
        "eyJ0aXRsZSI6ICIbWzJKIiwgIngiOiAiY2Fmw6ki", entry.size,
    )  # fmt: skip


def test_dropping_asks_first(flow: Flow) -> None:
    entry, other = orphan(flow), orphan(flow)
    assert fermata(flow.system, "drop", entry.entry_id).returncode == 1
    assert flow.entries(entry.job_id) == [entry]
    assert fermata(flow.system, "drop", entry.entry_id, "--yes").returncode == 0
    assert (flow.entries(entry.job_id), flow.entries(other.job_id)) == ([], [other])


@pytest.mark.parametrize(
    "arguments",
    [("show", "1-1"), ("show", "nonsense"), ("replay", "1-1"), ("replay",), ("drop",),
     ("replay", "1-1", "--all"), ("drop", "1-1", "--yes"), ("adopt", "1-1", "sonic.remaster")],
)  # fmt: skip
def test_an_entry_that_is_not_there_is_exit_code_2(flow: Flow, arguments: tuple[str, ...]) -> None:
    ran = fermata(flow.system, *arguments)
    assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr
    assert "Traceback" not in ran.stderr


# -- what comes late --------------------------------------------------------------------------


def test_a_song_that_comes_after_the_deadline_is_kept_on_the_record(impatient_flow: Flow) -> None:
    flow = impatient_flow
    job, late = flow.hold(), completed(title="late")
    result = job.apply_async()
    with pytest.raises(DeadlineExceeded):
        result.get(timeout=GET_SECONDS)
    wait_until(lambda: flow.state(job.id) == "expired")

    receipts = [flow.deliver(job.id, body).json()["status"] for body in (late, late, completed())]

    assert receipts == ["late", "without effect", "without effect"]
    record = flow.record(job.id)
    assert (record.state, (record.late or {})["body"]) == ("expired", json.dumps(late))
    assert flow.turns(job.id)[-3:] == ["late", *["song.completed again"] * 2]
    ran = flow.system.fermata("job", job.id, "--json")
    [clip] = json.loads(ran.stdout)["late"]["result"]["clips"]
    assert clip["clip_id"] == late["data"][0]["clip_id"]


def test_a_failure_that_comes_after_the_deadline_is_just_noted(impatient_flow: Flow) -> None:
    flow = impatient_flow
    job = flow.hold()
    job.apply_async()
    wait_until(lambda: flow.state(job.id) == "expired")
    assert flow.deliver(job.id, failed()).json() == {"status": "without effect"}
    assert flow.record(job.id).late is None
    assert flow.turns(job.id)[-1] == "song.failed again"


def test_the_record_of_a_job_tells_of_its_entries(flow: Flow) -> None:
    job = flow.song()
    job.apply_async().get(timeout=GET_SECONDS)
    flow.ends()
    entry = orphan(flow, b"{", job.id)
    told = flow.record(job.id).timeline[-1]
    assert (told["what"], entry.entry_id in told["why"]) == ("quarantined", True)
