"""The AI music service behind the port of providers."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from worker.core import providers
from worker.core.errors import InvalidPayload, InvalidRequest, KeyRefused
from worker.core.job.models import JobId, ProviderTaskId
from worker.core.providers import chosen
from worker.core.providers.aimusic.operations import OPERATIONS, Operation
from worker.core.providers.aimusic.provider import AIMusic
from worker.core.wire import Accepted, Answer, Finished


def answer(status: int, body: Any) -> Answer:
    return Answer(status, {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({"credits": 1000, "extra_credits": 0}, 1000),
        ({"credits": 1, "extra_credits": 999.5}, 1000.5),
        ({"data": {"credits": 7}}, 7),
        ({"data": [{"credits": 7}]}, 7),
        ({"data": {}, "credits": 7}, 7),
        ({"credits": "5000", "extra_credits": "0"}, 5000),
    ],
)
def test_the_credits_that_are_left_are_read_wherever_they_stand(body: Any, left: float) -> None:
    assert chosen().read_balance(answer(200, body)) == left


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"credits": "many"}),
        (200, {"credits": "nan"}),
        (200, {"data": []}),
        (200, {"extra_credits": 3}),
        (200, {"credits": None, "extra_credits": 2}),
        (202, {}),
        (429, {}),
        (500, {}),
    ],
)
def test_an_answer_that_does_not_say_how_many_is_told_apart_from_none(
    status: int, body: Any
) -> None:
    with pytest.raises(InvalidPayload):
        chosen().read_balance(answer(status, body))


def test_a_key_that_is_refused_is_said_to_be() -> None:
    with pytest.raises(KeyRefused):
        chosen().read_balance(answer(401, {"message": "bad key"}))


def test_no_credits_at_all_is_a_balance() -> None:
    assert chosen().read_balance(answer(200, {"credits": 0})) == 0


def test_a_task_is_no_balance() -> None:
    provider = chosen()
    assert provider.build_balance().method == "GET"
    with pytest.raises(InvalidPayload):
        provider.read_balance(answer(200, {"task_id": "a-task"}))


def test_an_operation_is_given_by_its_name() -> None:
    provider, name = chosen(), "sonic.remaster"
    body = provider.check(name, {"mv": "chirp-v5"}, source="a-clip")
    request = provider.build_submit(name, body, None)
    assert (request.path, request.body) == (OPERATIONS[name].path, body)
    assert "mv" in provider.signature(name).parameters
    accepted = provider.read_submit(name, answer(200, {"task_id": "a-task"}))
    assert accepted == Accepted(ProviderTaskId("a-task"))
    assert provider.build_poll(name, accepted.provider_task_id).path.endswith("/a-task")
    done = {"data": [{"clip_id": "c", "state": "succeeded"}], "task_id": "a-task"}
    assert isinstance(provider.read_poll(name, answer(200, done)), Finished)
    delivery = provider.read_delivery(json.dumps(done | {"event": "song.completed"}).encode())
    assert (delivery.final, delivery.brings_work) == (True, True)
    result = provider.read_result(JobId("j"), name, delivery.body)
    assert (result["job_id"], result["provider_task_id"]) == ("j", "a-task")


def test_the_headers_of_a_delivery_are_evidence() -> None:
    assert "X-Webhook-Signature" in chosen().scheme.all_headers


def test_another_provider_may_be_chosen_whose_operations_are_found() -> None:
    class Other(AIMusic):
        operations: Mapping[str, Operation] = {"a.song": OPERATIONS["sonic.remaster"]}

    before = chosen()
    providers.choose(Other())
    try:
        assert providers.find("a.song").name == "sonic.remaster"
        assert providers.operation_of("fermata.sonic.remaster") is None
        with pytest.raises(InvalidRequest, match=r"there are: a\.song"):
            providers.find("sonic.remaster")
    finally:
        providers.choose(before)
