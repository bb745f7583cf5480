"""The one table of operations agrees with itself, and with what the provider documents."""

import dataclasses
import string

import pytest

from worker.core.contract import JOB_ID
from worker.core.errors import InvalidRequest
from worker.core.job.models import Event, JobId, JobRecord, Source
from worker.core.job.states import JobState
from worker.core.providers import operation_of
from worker.core.providers.aimusic.operations import (
    OPERATIONS,
    Mode,
    Operation,
    account,
    find,
    lyrics,
    nuro,
    producer,
    riffusion,
    sonic,
)

FAMILIES = (sonic, lyrics, producer, account, riffusion, nuro)

every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def test_names_are_unique() -> None:
    rows = [row for family in FAMILIES for row in family.ROWS]
    assert [row.name for row in rows] == list(OPERATIONS)


def test_a_task_is_an_operations_by_its_whole_name() -> None:
    assert operation_of("fermata.sonic.remaster") is OPERATIONS["sonic.remaster"]
    assert operation_of("fermata.archive.store") is None
    assert operation_of("sonic.remaster") is None


@every_operation
def test_a_name_is_a_family_and_a_verb(operation: Operation) -> None:
    family, _, verb = operation.name.partition(".")
    letters = set(string.ascii_lowercase + string.digits + "_")
    assert family
    assert verb
    assert set(family + verb) <= letters


@every_operation
def test_a_row_is_consistent(operation: Operation) -> None:
    assert operation.path.startswith("/")
    assert operation.method in {"GET", "POST"}
    assert operation.synchronous is (operation.poll_path is None)
    assert 0 <= operation.expected_seconds < operation.deadline_seconds
    assert operation.credits >= 0
    assert operation.clip_field in {None, *operation.schema().fields}
    assert set(operation.fixed).isdisjoint(operation.schema().fields)


@every_operation
def test_a_synchronous_operation_takes_no_webhook_and_expects_no_wait(
    operation: Operation,
) -> None:
    if operation.synchronous:
        assert not operation.takes_webhook
        assert operation.expected_seconds == 0
    else:
        assert operation.expected_seconds > 0


def test_only_what_costs_nothing_more_may_be_repeated() -> None:
    # A clip's lyrics timeline is free after the first time (provider-api-2.md §3.6).
    repeatable = {name for name, row in OPERATIONS.items() if row.repeatable}
    assert repeatable == {"account.credits", "sonic.lyrics_timeline"}


# Path and credits: provider-api.md §2, §7. Webhook or not: provider-api-2.md §2, §5.
DOCUMENTED = {
    "sonic.create_music": ("/sonic/create", Mode.WEBHOOK, 14),
    "sonic.extend": ("/sonic/create", Mode.WEBHOOK, 10),
    "sonic.cover": ("/sonic/create", Mode.WEBHOOK, 14),
    "sonic.concat": ("/sonic/create", Mode.WEBHOOK, 2),
    "sonic.persona_music": ("/sonic/create", Mode.WEBHOOK, 10),
    "sonic.remaster": ("/sonic/create", Mode.WEBHOOK, 10),
    "sonic.add_vocals": ("/sonic/create", Mode.WEBHOOK, 10),
    "sonic.add_instrumental": ("/sonic/create", Mode.WEBHOOK, 10),
    "sonic.upload_extend": ("/sonic/upload-extend", Mode.WEBHOOK, 12),
    "sonic.upload_cover": ("/sonic/upload-cover", Mode.WEBHOOK, 16),
    "sonic.upload": ("/sonic/upload", Mode.DIRECT, 2),
    "sonic.upload_async": ("/sonic/upload", Mode.POLLED, 2),
    "sonic.create_persona": ("/sonic/persona", Mode.DIRECT, 1),
    "sonic.create_voice": ("/sonic/create-voice", Mode.WEBHOOK, 4),
    "sonic.sample": ("/sonic/sample", Mode.WEBHOOK, 14),
    "sonic.mashup": ("/sonic/mashup", Mode.WEBHOOK, 14),
    "sonic.replace_section": ("/sonic/replace-section", Mode.WEBHOOK, 10),
    "sonic.stems_basic": ("/sonic/stems/basic", Mode.POLLED, 20),
    "sonic.stems_full": ("/sonic/stems/full", Mode.POLLED, 50),
    "sonic.bpm": ("/sonic/bpm", Mode.DIRECT, 1),
    "sonic.vox": ("/sonic/vox", Mode.DIRECT, 1),
    "sonic.wav": ("/sonic/wav", Mode.DIRECT, 1),
    "sonic.midi": ("/sonic/midi", Mode.DIRECT, 1),
    "sonic.lyrics_timeline": ("/sonic/aligned-lyrics", Mode.DIRECT, 1),
    "sonic.upsample_tags": ("/sonic/upsample-tags", Mode.DIRECT, 1),
    "sonic.download": ("/sonic/download", Mode.DIRECT, 2),
    "lyrics.generate": ("/sonic/lyrics", Mode.DIRECT, 2),
    "producer.create_music": ("/producer/create", Mode.WEBHOOK, 10),
    "producer.make_lyrics": ("/producer/lyrics-create", Mode.POLLED, 1),
    "producer.video_clip": ("/producer/video-clip", Mode.POLLED, 5),
    "producer.upload": ("/producer/upload", Mode.WEBHOOK, 2),
    "producer.download": ("/producer/download", Mode.WEBHOOK, 2),
    "account.credits": ("/get-credits", Mode.DIRECT, 0),
    "riffusion.create_music": ("/riffusion/create", Mode.POLLED, 10),
    "riffusion.extend": ("/riffusion/create", Mode.POLLED, 10),
    "riffusion.cover": ("/riffusion/create", Mode.POLLED, 10),
    "riffusion.replace_section": ("/riffusion/create", Mode.POLLED, 10),
    "riffusion.swap_sound": ("/riffusion/create", Mode.POLLED, 10),
    "riffusion.swap_vocals": ("/riffusion/create", Mode.POLLED, 10),
    "riffusion.upload": ("/riffusion/upload", Mode.DIRECT, 2),
    "nuro.create_vocal": ("/nuro/create", Mode.WEBHOOK, 10),
    "nuro.create_instrumental": ("/nuro/create", Mode.WEBHOOK, 10),
}


def test_the_table_is_what_the_provider_documents() -> None:
    table = {name: (row.path, row.mode, row.credits) for name, row in OPERATIONS.items()}
    assert table == DOCUMENTED


def test_only_credits_are_read_with_a_get() -> None:
    assert {n for n, row in OPERATIONS.items() if row.method == "GET"} == {"account.credits"}


def test_a_task_is_polled_where_its_family_answers() -> None:
    polled = [row for row in OPERATIONS.values() if not row.synchronous]
    assert all(row.poll_path == f"/{row.family}/task/" for row in polled)


def test_only_requests_that_upload_first_are_slow() -> None:
    # 20 s for an upload, 30 to 60 s with what follows it (provider-api.md §3.2, §3.3).
    slow = {name: row.submit_seconds for name, row in OPERATIONS.items() if row.slow}
    assert set(slow) == {
        "sonic.upload",
        "sonic.upload_async",
        "sonic.upload_extend",
        "sonic.upload_cover",
    }
    assert all(seconds and seconds >= 60 for seconds in slow.values())


def test_the_retired_families_name_an_operation_that_is_not() -> None:
    retired = {name: row.retired for name, row in OPERATIONS.items() if row.retired}
    assert {name.partition(".")[0] for name in retired} == {"riffusion", "nuro"}
    assert all(not OPERATIONS[instead].retired for instead in retired.values())


def test_a_source_fills_only_what_the_request_takes() -> None:
    for row in OPERATIONS.values():
        assert set(row.carries) <= set(row.schema().fields), row.name
        assert row.clips == 1 or row.clip_field


def test_an_operation_is_found_by_its_name() -> None:
    assert find("sonic.wav") is OPERATIONS["sonic.wav"]


def test_an_unknown_operation_is_an_error_that_names_the_known() -> None:
    with pytest.raises(InvalidRequest, match=r"sonic\.flac") as raised:
        find("sonic.flac")
    assert all(name in raised.value.message for name in OPERATIONS)


def test_a_row_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        OPERATIONS["sonic.wav"].path = "/elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize("job_id", ["a", "468d0e42-f7a6-40ce-9a4c-37db56b13b99", "a" * 128])
def test_a_job_id_may_stand_in_a_url(job_id: str) -> None:
    assert JOB_ID.fullmatch(job_id)


@pytest.mark.parametrize("job_id", ["", "a" * 129, "../x", "a/b", "a b", "é", "a\n", ".", "-a"])
def test_a_job_id_that_does_not_fit_a_url_is_none(job_id: str) -> None:
    assert not JOB_ID.fullmatch(job_id)


@pytest.mark.parametrize(
    "event",
    [
        Event(Source.WEBHOOK, body='{"a": "\\u00e9"}', delivery_id="d-1"),
        Event(Source.SWEEP, error={"type": "DeadlineExceeded", "message": "late"}),
    ],
)
def test_an_event_survives_its_record(event: Event) -> None:
    assert Event.loads(event.dumps()) == event
    assert isinstance(Event.loads(event.dumps()).source, Source)


def test_a_record_is_shown_with_every_field() -> None:
    record = JobRecord(JobId("job-1"), "sonic.wav", JobState.QUEUED, 1.0, 2.0)
    shown = record.to_json()
    assert set(shown) == {field.name for field in dataclasses.fields(JobRecord)}
    assert (shown["job_id"], shown["state"], shown["due_at"]) == ("job-1", "queued", None)


def test_what_can_be_heard_is_made_by_a_task_and_not_passed_on() -> None:
    makers = {name for name, each in OPERATIONS.items() if each.makes_music}
    assert {"sonic.create_music", "sonic.remaster", "sonic.stems_full"} <= makers
    assert not makers & {"sonic.wav", "sonic.midi", "sonic.bpm", "lyrics.generate"}
    assert not makers & {"sonic.create_voice", "producer.make_lyrics", "account.credits"}
