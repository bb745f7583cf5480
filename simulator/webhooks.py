"""A task's webhooks: their bodies, times and order, how they go wrong, and what became of them."""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .books import Books, ProviderTask
from .deliveries import Courier, Delivery
from .payloads import callback_body, can_stream, final_body, final_event, streaming_body
from .replies import JSON
from .scenarios import Webhook
from .settings import Settings

log = logging.getLogger(__name__)

Record = Callable[[JSON], None]

# If the caller gives no secret, the provider signs with one of its own (provider-api.md §5.1).
OWN_KEY = "a key that only the provider has"
WRONG_KEY = "a key that nobody has"


@dataclass(frozen=True, slots=True)
class Sending:
    """Deliveries to make in order, starting `delay_seconds` after the task was accepted."""

    delay_seconds: float
    deliveries: tuple[Delivery, ...]


class Webhooks:
    """Sends the webhooks of tasks, and books each attempt."""

    def __init__(self, settings: Settings, books: Books, courier: Courier) -> None:
        self._settings = settings
        self._books = books
        self._courier = courier

    def send(self, task: ProviderTask) -> None:
        """Send a task's webhooks at their times; before this returns, if they are to be early."""
        for sending in plan(task, self._settings, partial(self._record, task)):
            if task.scenario.webhook is Webhook.EARLY:
                self._courier.send(sending.deliveries)
            else:
                self._courier.send_after(sending.delay_seconds, sending.deliveries)

    def _record(self, task: ProviderTask, entry: JSON) -> None:
        self._books.record_delivery(task, entry)
        status = entry["http_status"] or "no answer"
        log.info("delivery %s %s %s", task.provider_task_id, entry["event"], status)


def plan(task: ProviderTask, settings: Settings, record: Record) -> list[Sending]:
    """List the deliveries of a task. None if its request gave no address, or may not give one."""
    callback = task.request.get("callback_url") if task.operation.sync else None
    url = task.request.get("webhook_url") if task.operation.webhook else callback
    scenario = task.scenario
    if not url or scenario.webhook is Webhook.LOST:
        return []
    secret = str(task.request.get("webhook_secret") or OWN_KEY)
    signed = not callback or settings.upload_callback == "signed"

    def delivery(event: str, body: bytes) -> Delivery:
        return Delivery(str(uuid.uuid4()), event, str(url), secret, body, record, signed=signed)

    body = callback_body(task) if callback else final_body(task, settings)
    wanted = scenario.streaming or (scenario.webhook is Webhook.REORDERED)
    streams = [
        delivery("song.streaming", streaming_body(task, settings))
        for _ in range(wanted if can_stream(task) else 0)
    ]
    return _arrange(task, delivery(final_event(task), body), streams)


def _arrange(task: ProviderTask, final: Delivery, streams: list[Delivery]) -> list[Sending]:
    scenario = task.scenario
    latency = task.done_at - task.accepted_at
    if scenario.webhook is Webhook.REORDERED:
        return [Sending(latency, (final, *streams))]
    sendings = [Sending(at, (s,)) for at, s in zip(_spread(latency, streams), streams, strict=True)]
    match scenario.webhook:
        case Webhook.LATE:
            return [*sendings, Sending(latency + scenario.late_seconds, (final,))]
        case Webhook.DUPLICATE:
            return [*sendings, *[Sending(latency, (final,))] * scenario.copies]
        case _:
            return [*sendings, Sending(latency, (_spoil(final, scenario.webhook),))]


def _spread(latency: float, streams: list[Delivery]) -> list[float]:
    """Space the streaming events evenly over the second half of the task's time."""
    return [latency / 2 * (1 + nth / len(streams)) for nth in range(len(streams))]


def _spoil(delivery: Delivery, webhook: Webhook) -> Delivery:
    """Make a delivery forged or unreadable, and the only try; otherwise leave it as it is."""
    match webhook:
        case Webhook.FORGED:
            return dataclasses.replace(delivery, secret=WRONG_KEY, retried=False)
        case Webhook.MALFORMED:
            return dataclasses.replace(delivery, body=delivery.body[:-20], retried=False)
        case Webhook.NONSENSE:
            return dataclasses.replace(delivery, body=b'["song","completed"]', retried=False)
        case _:
            return delivery
