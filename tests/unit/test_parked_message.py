"""The message that a submit leg keeps: the one that Celery would publish for the task again."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signature
from celery.app.task import Context
from celery.canvas import Signature

from tests.job import pressed
from worker.core.contract import OURS_HEADER
from worker.core.job import kept
from worker.messages.press import park

NAME = "fermata.sonic.remaster"
QUEUES = ("celery", "elsewhere")
EXPIRES = datetime(2030, 1, 1, tzinfo=UTC)

app: Any = Celery(set_as_current=False, broker="memory://", backend="cache+memory://")


def run(task: Any, source: str = "", **fields: Any) -> None:
    """Stands for a job."""


remaster: Any = app.task(name=NAME, bind=True, shared=False)(run)


def step(name: str, *args: Any, **options: Any) -> Signature[Any]:
    return signature(name, args, app=app, options=options)


SENT = {
    "plain": remaster.s("clip", mv="chirp-v5"),
    "without arguments": remaster.s(),
    "with a priority": remaster.s("é").set(priority=3),
    "that expires": remaster.s("clip").set(expires=60),
    "that started later": remaster.s("clip").set(countdown=5),
    "tried again": remaster.s("clip").set(retries=2),
    "with limits": remaster.s("clip").set(time_limit=30, soft_time_limit=20),
    "in a queue of its own": remaster.s("clip").set(queue="elsewhere"),
    "without result": remaster.s("clip").set(ignore_result=True),
    "with headers": remaster.s("clip").set(headers={"fermata_tenant": "acme", "n": 1}),
    "with a shadow": remaster.s("clip").set(shadow="a name"),
    "in a chain": chain(remaster.s("clip"), step("b", 1), step("c")),
    "before a group": chain(remaster.s(), group(step("b"), step("c")), step("d")),
    "in a chord": chord([remaster.s("clip"), remaster.s("other")], step("body")),
    "with callbacks": remaster.s("clip").on_error(step("on_error")).set(link=[step("b")]),
    "that follows": remaster.s("clip").set(parent_id="before", root_id="first"),
    "with stamps": remaster.s("clip").set(stamped_headers=["team", "run"], team="a", run=["1"]),
    "with an answer to": remaster.s("clip").set(reply_to="somebody"),
}


def delivered(wanted: Signature[Any]) -> Any:
    """Publish a signature, and take its message; return the task, with the request it runs with."""
    with app.connection_for_write() as connection:
        queues = [app.amqp.queues[name](connection.default_channel) for name in QUEUES]
        for queue in queues:
            queue.declare()
            queue.purge()
        with connection.Producer() as producer:
            wanted.apply_async(producer=producer)
        message = next(filter(None, (queue.get(no_ack=True) for queue in queues)))
    args, kwargs, embed = message.payload
    properties, route = message.properties, message.delivery_info
    # As Celery's worker and its tracer make it.
    said = message.headers | {
        "properties": properties,
        "reply_to": properties.get("reply_to"),
        "delivery_info": {
            "exchange": route["exchange"],
            "routing_key": route["routing_key"],
            "priority": properties.get("priority"),
            "redelivered": False,
        },
    }
    request = Context(said, args=args, kwargs=kwargs, called_directly=False)
    request.update(embed)
    task = app.tasks[NAME]
    task.request_stack.push(request)
    return task


@pytest.mark.parametrize("wanted", SENT.values(), ids=SENT.keys())
@pytest.mark.parametrize("where", [{}, {"queue": "fermata.slow", "expires": EXPIRES}])
def test_it_is_the_one_that_celery_would_publish(
    wanted: Signature[Any], where: dict[str, Any]
) -> None:
    task = delivered(wanted)
    headers = {**(task.request.headers or {}), OURS_HEADER: 0}
    again = task.signature_from_request(
        **{"expires": None, "queue": None, **where}, retries=0, headers=headers
    )
    theirs, ours = pressed(again), park(task, **where)
    their_head, their_body = kept.unpack(theirs.message)
    our_head, our_body = kept.unpack(ours.message)
    assert our_body == their_body
    # Two that belong to one publish, and that nobody reads from a record.
    for name in ("origin", "expiration"):
        their_head["properties"].pop(name, None)
    assert json.dumps(our_head) == json.dumps(their_head)
    assert ours.place == theirs.place


def test_it_says_of_its_arguments_what_the_producer_says() -> None:
    task = delivered(remaster.s("secret").set(argsrepr="(…)", kwargsrepr="{}"))
    head, _ = kept.unpack(park(task).message)
    assert head["headers"]["argsrepr"] == "(…)"
