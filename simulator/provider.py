"""The provider without its HTTP: requests in, replies out, webhooks on their way."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from functools import partial

from .books import Books, Clip, ProviderTask, due
from .deliveries import Courier, Post, Scheduler
from .operations import Operation
from .payloads import NOT_READY, poll_reply, stem_type
from .replies import JSON, Refused, Reply, error_body
from .scenarios import Rulebook, Scenario, Submit, Webhook
from .settings import Settings
from .songs import compose
from .validation import Body, read_body
from .webhooks import plan

log = logging.getLogger(__name__)

CLIPS_PER_SONG = 2
REFUSALS = {
    Submit.RATE_LIMITED: (429, "Too many requests."),
    Submit.NO_CREDITS_402: (402, "Credits not enough."),
    Submit.NO_CREDITS_403: (403, "Credits not enough."),
    Submit.MODERATION_403: (403, "Inappropriate lyrics."),
}


class Provider:
    """Accept requests, book them, and do what their scenario says."""

    def __init__(
        self,
        settings: Settings,
        post: Post | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.rules = Rulebook(settings.scenario)
        self.books = Books(settings.credits, settings.out_of_credits_status)
        self._courier = Courier(Scheduler(settings.delivery_threads), settings, clock, post)
        self._clock = clock

    def authorize(self, header: str | None) -> None:
        """Check an Authorization header (`provider-api.md` §1, §6). Raises `Refused` (401)."""
        if not header:
            raise Refused(401, "Authorization header is missing.")
        scheme, _, key = header.partition(" ")
        if scheme != "Bearer" or not key:
            raise Refused(401, "Invalid authorization format.")
        if key != self.settings.api_key:
            raise Refused(401, "Invalid API key.")

    def submit(self, operation: Operation, raw: bytes, base_url: str) -> Reply:
        """Accept a request, or raise `Refused`.

        Raises `ConnectionAbortedError` when the scenario wants the answer lost.
        """
        self.books.count("submits")
        scenario = self.rules.choose(raw.decode(errors="replace"))
        _refuse(scenario)
        body = read_body(raw)
        operation.check(body, self.settings)
        clip = self._source(operation, body)
        if operation.may_wait and clip and not self._is_ready(clip, scenario):
            return NOT_READY
        task = self._accept(operation, body, scenario, base_url, clip)
        log.info("submit %s %s %s", operation.path, task.provider_task_id, scenario.submit)
        if operation.webhook:
            self._send_webhooks(task)
        reply = self._reply(operation, task, clip)
        return _as_sent(scenario, reply, self.settings)

    def note_refusal(self, method: str, path: str, status: int) -> None:
        if method == "POST":
            self.books.count_refused(status)
        log.info("%s %s refused %d", method, path, status)

    def poll(self, provider_task_id: str) -> Reply:
        """Tell how far a task is. Raises `Refused` for one that was never started."""
        self.books.count("polls")
        task = self.books.tasks.get(provider_task_id)
        if task is None:
            raise Refused(self.settings.unknown_task_status, "task not found.")
        reply = poll_reply(task, task.state(self._clock()), self.settings)
        log.info("poll %s %s", provider_task_id, reply.status)
        return reply

    def balance(self) -> JSON:
        return {"credits": self.books.balance(self._clock()), "extra_credits": 0}

    def report(self, match: str) -> JSON:
        return self.books.report(self._clock(), match)

    def _source(self, operation: Operation, body: Body) -> Clip | None:
        """Find the clip a request is about: any UUID is a song, unless clips are strict."""
        clip_id = body.get(operation.clip_field)
        if clip_id is None:
            return None
        known = self.books.clips.get(str(clip_id))
        if known is None and (self.settings.strict_clips or not _is_uuid(str(clip_id))):
            raise Refused(404, "clip not found.")
        return known or Clip(str(clip_id), compose(str(clip_id)).title, str(clip_id))

    def _is_ready(self, clip: Clip, scenario: Scenario) -> bool:
        return self.books.midi_is_ready(clip.clip_id, scenario.not_ready_times)

    def _accept(
        self,
        operation: Operation,
        body: Body,
        scenario: Scenario,
        base_url: str,
        source: Clip | None,
    ) -> ProviderTask:
        now = self._clock()
        task = ProviderTask(
            provider_task_id=str(uuid.uuid4()),
            path=operation.path,
            task_type=operation.task_type(body),
            request=body,
            scenario=scenario,
            base_url=base_url,
            price=operation.price(body),
            clips=_new_clips(operation, body, source),
            accepted_at=now,
            done_at=now if operation.answer else due(now, scenario),
        )
        self.books.accept(task)
        return task

    def _send_webhooks(self, task: ProviderTask) -> None:
        for sending in plan(task, self.settings, partial(self._record_delivery, task)):
            if task.scenario.webhook is Webhook.EARLY:
                self._courier.send(sending.deliveries)
            else:
                self._courier.send_after(sending.delay_seconds, sending.deliveries)

    def _record_delivery(self, task: ProviderTask, entry: JSON) -> None:
        self.books.record_delivery(task, entry)
        status = entry["http_status"] or "no answer"
        log.info("delivery %s %s %s", task.provider_task_id, entry["event"], status)

    def _reply(self, operation: Operation, task: ProviderTask, clip: Clip | None) -> Reply:
        if operation.answer and clip:
            return Reply(200, operation.answer(clip, task.base_url))
        return Reply(200, {"message": "success", "task_id": task.provider_task_id})


def _refuse(scenario: Scenario) -> None:
    if scenario.submit not in REFUSALS:
        return
    seconds = scenario.retry_after_seconds
    headers = {"Retry-After": str(seconds)} if seconds else {}
    raise Refused(*REFUSALS[scenario.submit], headers)


def _as_sent(scenario: Scenario, reply: Reply, settings: Settings) -> Reply:
    """Do to the answer what the scenario wants; the task is accepted already."""
    match scenario.submit:
        case Submit.DROP:
            raise ConnectionAbortedError("this scenario drops the answer")
        case Submit.SLOW:
            time.sleep(scenario.submit_delay_seconds)
        case Submit.ERROR_500:
            return Reply(500, error_body(settings, 500, "Internal Server Error."))
        case Submit.UNREADABLE:
            return Reply(200, "<!doctype html><title>Please wait</title>")
    return reply


def _new_clips(operation: Operation, body: Body, source: Clip | None) -> tuple[Clip, ...]:
    if operation.answer:
        return ()
    if operation.stems and source:
        return tuple(_stem(source, stem) for stem in operation.stems)
    return tuple(_song(body) for _ in range(CLIPS_PER_SONG))


def _stem(source: Clip, stem: str) -> Clip:
    title = f"{source.title} ({stem_type(stem)})"
    return Clip(str(uuid.uuid4()), title, source.source, stem)


def _song(body: Body) -> Clip:
    clip_id = str(uuid.uuid4())
    return Clip(clip_id, str(body.get("title") or compose(clip_id).title), clip_id)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
