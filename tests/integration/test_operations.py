"""Every operation of the table, through real processes and the provider's wire protocol."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chord

from tests.system import System
from worker.core import errors
from worker.core.contract import SLOW_QUEUE, task_name
from worker.core.providers.aimusic.operations import OPERATIONS, Mode, Operation, find
from worker.core.providers.aimusic.submission import check_parameters
from worker.reference import example

ACTIVE = [row for row in OPERATIONS.values() if not row.retired]
RETIRED = [row for row in OPERATIONS.values() if row.retired]
ON_A_CLIP = [row for row in ACTIVE if row.clip_field and row.clips == 1]
ONE_OF_EACH_MODE = [find(name) for name in ("sonic.remaster", "sonic.stems_basic", "sonic.bpm")]
GET_SECONDS = 30


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("operations")) as system:
        system.worker("quick", concurrency=3)
        system.worker("slow", queues=SLOW_QUEUE, pool="threads", concurrency=4)
        yield system


def source(row: Operation) -> Any:
    if row.clip_field is None:
        return None
    clips = [str(uuid.uuid4()) for _ in range(row.clips)]
    return clips[0] if row.clips == 1 else clips


def send(system: System, row: Operation, given: Any, **scenario: Any) -> Any:
    """Enqueue a plain call by name; returns its AsyncResult."""
    job_id = str(uuid.uuid4())
    if scenario:
        match = job_id if row.takes_webhook else given
        system.simulator.rule(match, **scenario)
    args = [] if given is None else [given]
    return system.app.send_task(
        task_name(row.name), args=args, kwargs=example(row), queue="fermata", task_id=job_id
    )


def names(rows: list[Operation]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


@names(ACTIVE)
def test_an_operation_sends_what_is_documented_and_brings_its_result(
    everything: System, row: Operation
) -> None:
    given = source(row)
    before = len(everything.simulator.accepted(""))

    result = send(everything, row, given).get(timeout=GET_SECONDS)

    assert result["operation"] == row.name
    assert result["data"] or result["clips"]
    if row.makes_clips:
        assert any(clip["state"] == "succeeded" for clip in result["clips"])
    if row.method == "GET":
        return
    (task,) = everything.simulator.accepted("")[before:]
    body = check_parameters(row, example(row), source=given)
    assert task["path"] == row.path
    sent = dict(task["request"])
    if row.takes_webhook or row.callback_field:
        called_back = sent.pop(row.callback_field or "webhook_url")
        assert called_back.endswith(result["job_id"])
    assert sent == body


@names(RETIRED)
def test_a_retired_operation_names_the_one_to_use_instead(
    everything: System, row: Operation
) -> None:
    with pytest.raises(errors.OperationRetired) as raised:
        send(everything, row, source(row)).get(timeout=GET_SECONDS)
    assert raised.value.details["instead"] == row.retired
    assert row.retired in OPERATIONS
    assert raised.value.http_status == 410


SHAPES = ["message", "typed", "retriable", "brief", "text_code", "html", "empty"]
REFUSALS = {
    "moderation_403": errors.RequestRefused,
    "unreachable_audio_400": errors.RequestRefused,
    "copyright_400": errors.RequestRefused,
    "retired_410": errors.OperationRetired,
}
BARE = {"html", "empty"}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("submit", REFUSALS)
@names(ONE_OF_EACH_MODE)
def test_a_refusal_is_the_same_error_in_every_shape_and_mode(
    everything: System, row: Operation, submit: str, shape: str
) -> None:
    refused = send(everything, row, source(row), submit=submit, error_shape=shape)
    wanted: type[errors.ProviderError] = REFUSALS[submit]
    if shape in BARE and submit.endswith("_403"):
        # Without a word of the provider's, a 403 cannot say whether it is about credits.
        wanted = errors.ProviderError
    with pytest.raises(wanted) as raised:
        refused.get(timeout=GET_SECONDS)
    assert raised.value.http_status == int(submit.rpartition("_")[2])
    assert not raised.value.retryable


@pytest.mark.parametrize("submit", ["error_500", "timeout_504", "upstream_502", "unreadable"])
@names([row for row in ONE_OF_EACH_MODE if row.mode is not Mode.WEBHOOK])
def test_an_unknown_outcome_without_a_webhook_is_never_sent_again(
    everything: System, row: Operation, submit: str
) -> None:
    given = source(row)
    unknown = send(everything, row, given, submit=submit)
    with pytest.raises(errors.SubmissionUnconfirmed):
        unknown.get(timeout=GET_SECONDS)
    assert everything.readings.read(unknown.id).attempts == 1


@pytest.mark.parametrize("form", ["typed", "gateway_timeout", "clips"])
@names([row for row in ONE_OF_EACH_MODE if row.mode is not Mode.DIRECT])
def test_a_task_that_fails_is_one_error_however_the_poll_says_it(
    everything: System, row: Operation, form: str
) -> None:
    failed = send(everything, row, source(row), outcome="fail", failure_form=form, webhook="lost")
    with pytest.raises(errors.TaskFailed):
        failed.get(timeout=GET_SECONDS)


@names(ON_A_CLIP)
def test_an_operation_on_a_clip_follows_the_creation_of_a_song(
    everything: System, row: Operation
) -> None:
    song = everything.app.signature(
        "fermata.sonic.create_music",
        kwargs={"custom_mode": True, "prompt": "[Verse]\nHold the note"},
        queue="fermata",
    )
    follow_up = everything.app.signature(task_name(row.name), kwargs=example(row), queue="fermata")
    result = (song | follow_up).apply_async().get(timeout=GET_SECONDS)
    assert result["operation"] == row.name


def test_lyrics_become_a_song_and_a_voice_becomes_a_persona(everything: System) -> None:
    def step(operation: str, **parameters: Any) -> Any:
        return everything.app.signature(task_name(operation), kwargs=parameters, queue="fermata")

    song = step("lyrics.generate", description="a held note") | step(
        "sonic.create_music", custom_mode=True
    )
    clip = song.apply_async().get(timeout=GET_SECONDS)["clips"][0]
    persona = (
        step("sonic.vox", clip_id=clip["clip_id"])
        | step("sonic.create_persona", name="Ada")
        | step("sonic.persona_music", custom_mode=True, prompt="[Verse]\nHold")
    )
    sung = persona.apply_async().get(timeout=GET_SECONDS)
    (task,) = everything.simulator.accepted(sung["job_id"])
    assert task["request"]["task_type"] == "persona_music"
    assert task["request"]["persona_id"]


def test_two_songs_become_a_mashup(everything: System) -> None:
    songs = [
        everything.app.signature(
            "fermata.sonic.create_music",
            kwargs={"custom_mode": False, "gpt_description_prompt": "a waltz"},
            queue="fermata",
        )
        for _ in range(2)
    ]
    mashup = everything.app.signature(
        "fermata.sonic.mashup",
        kwargs={"custom_mode": False, "gpt_description_prompt": "both"},
        queue="fermata",
    )
    result = chord(songs, mashup, app=everything.app).apply_async().get(timeout=GET_SECONDS)
    (task,) = everything.simulator.accepted(result["job_id"])
    assert len(set(task["request"]["mashup_clip_ids"])) == 2


def test_a_joined_song_comes_before_its_parts(everything: System) -> None:
    row = find("sonic.replace_section")
    joined = everything.app.send_task(
        task_name(row.name),
        args=[str(uuid.uuid4())],
        kwargs={**example(row), "auto_concat": True},
        queue="fermata",
    ).get(timeout=GET_SECONDS)
    assert [clip["part"] for clip in joined["clips"][:2]] == ["full", "replaced"]


def _submitted(system: System, worker: str, job_id: str) -> list[str]:
    lines = system.log(worker).splitlines()
    return [line for line in lines if "job_submitted" in line and job_id in line]


@names([row for row in ACTIVE if row.slow])
def test_a_slow_request_is_passed_on_to_the_worker_for_the_slow(
    everything: System, row: Operation
) -> None:
    sent = send(everything, row, source(row))
    sent.get(timeout=GET_SECONDS)
    assert _submitted(everything, "slow", sent.id)
    assert not _submitted(everything, "quick", sent.id)


@pytest.mark.parametrize("name", ["sonic.midi", "sonic.lyrics_timeline", "sonic.download"])
def test_what_is_not_ready_yet_is_asked_again_without_holding_a_slot(
    everything: System, name: str
) -> None:
    row = find(name)
    waiting = send(everything, row, source(row), not_ready_times=1)
    assert waiting.get(timeout=GET_SECONDS)["operation"] == name
    record = everything.readings.read(waiting.id)
    assert record.attempts == 2
    assert [turn["what"] for turn in record.timeline].count("postpone") == 1
