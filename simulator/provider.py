"""The provider without its HTTP: requests in, replies out, webhooks on their way."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from .answers import ANSWERS
from .books import Books, Clip, ProviderTask, due
from .clips import found_song, is_uuid, named_clips, new_clips
from .deliveries import Courier, Post, Scheduler
from .fields import Body
from .limits import Pace
from .operations import Operation
from .payloads import NOT_READY, poll_reply
from .replies import JSON, Refused, Reply, error_body
from .scenarios import FailedStep, Rulebook, Scenario, Submit, Webhook
from .settings import Settings
from .table import TABLE
from .validation import check, find_operation, read_body, retired
from .webhooks import plan

log = logging.getLogger(__name__)

REFUSALS = {
    Submit.RATE_LIMITED: (429, "Too many requests."),
    Submit.KEY_REFUSED_401: (401, "Invalid API key."),
    Submit.NO_CREDITS_402: (402, "Credits not enough."),
    Submit.NO_CREDITS_403: (403, "Credits not enough."),
    Submit.NO_SUBSCRIPTION_403: (403, "No active subscription."),
    Submit.MODERATION_403: (403, "Inappropriate lyrics."),
    Submit.UNREACHABLE_AUDIO_400: (
        400,
        "Audio URL is not accessible. Please provide a public direct audio file URL.",
    ),
    Submit.COPYRIGHT_400: (400, "The audio matches an existing recording in our catalog."),
    Submit.RETIRED_410: (410, "This endpoint is retired."),
    Submit.UPSTREAM_502: (502, "The upstream returned no job id."),
    Submit.TIMEOUT_504: (504, "The upstream timed out. No credits were charged."),
}
UPLOAD = next(row for row in TABLE if row.path == "/sonic/upload")


class Provider:
    """Accepts requests, books them, and answers as their scenario says."""

    def __init__(
        self,
        settings: Settings,
        post: Post | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.rules = Rulebook(settings.scenario)
        self.books = Books(settings.credits, settings.out_of_credits_status, settings.in_flight)
        self._pace = Pace(settings.submits_per_second)
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

    def submit(self, path: str, raw: bytes, base_url: str) -> Reply:
        """Accept a request, or raise `Refused`.

        Raises `ConnectionAbortedError` when the scenario wants the answer lost.
        """
        self.books.count("submits")
        scenario = self.rules.choose(raw.decode(errors="replace"))
        try:
            return self._submit(path, raw, base_url, scenario)
        except Refused as refusal:
            refusal.shape = scenario.error_shape
            raise

    def _submit(self, path: str, raw: bytes, base_url: str, scenario: Scenario) -> Reply:
        _refuse(scenario)
        self._pace.take(self._clock())
        body = read_body(raw)
        operation = find_operation(path, body, self.settings)
        check(operation, body, self.settings)
        sources = self._sources(operation, body)
        if operation.may_wait and not self._is_ready(operation, sources[0], scenario):
            return NOT_READY
        start = partial(self._accept, body, scenario, base_url)
        if operation.uploads(body):
            time.sleep(scenario.upload_seconds)
            if operation.step and scenario.failed_step is not FailedStep.NONE:
                return self._break_step(operation, scenario.failed_step, start)
        task = start(operation, sources)
        log.info("submit %s %s %s", path, task.provider_task_id, scenario.submit)
        self._send_webhooks(task)
        return _as_sent(scenario, self._reply(task), self.settings)

    def note_refusal(self, method: str, path: str, status: int) -> None:
        if method == "POST":
            self.books.count_refused(status)
        log.info("%s %s refused %d", method, path, status)

    def poll(self, family: str, provider_task_id: str) -> Reply:
        """Tell how far a task is. Raises `Refused` for one that was never started."""
        self.books.count("polls")
        path = f"/{family}/task"
        if self.settings.retires(path):
            raise retired(path)
        task = self.books.tasks.get(provider_task_id)
        if task is None or task.operation.family != family:
            raise Refused(self.settings.unknown_task_status, "task not found.")
        reply = self._poll_error(task) or poll_reply(task, task.state(self._clock()), self.settings)
        log.info("poll %s %s", provider_task_id, reply.status)
        return reply

    def _poll_error(self, task: ProviderTask) -> Reply | None:
        task.polls += 1
        if task.polls > task.scenario.poll_errors:
            return None
        return _error(self.settings, task.scenario, 500, "Internal Server Error.")

    def balance(self) -> JSON:
        return {"credits": self.books.balance(self._clock()), "extra_credits": 0}

    def report(self, match: str) -> JSON:
        return self.books.report(self._clock(), match)

    def age_clip(self, clip_id: str, hours: float) -> None:
        """Make a clip `hours` old, whether it was made here or not."""
        clip = self.books.clips.get(clip_id) or found_song(clip_id, self._clock())
        self.books.keep(replace(clip, made_at=self._clock() - hours * 3600))

    def _sources(self, operation: Operation, body: Body) -> tuple[Clip, ...]:
        """Find the clips a request is about. Raises `Refused` if one cannot be used."""
        clips = tuple(map(self._clip, named_clips(operation, body)))
        oldest = self._clock() - self.settings.clip_hours * 3600
        if operation.fresh and any(clip.made_at < oldest for clip in clips):
            raise Refused(self.settings.old_clip_status, "The clip is too old.")
        if operation.sung and not all(clip.lyrics for clip in clips):
            raise Refused(404, "The clip has no lyrics.")
        return clips

    def _clip(self, clip_id: str) -> Clip:
        """Find one clip: any UUID is a song, unless clips are strict."""
        known = self.books.clips.get(clip_id)
        if known is None and (self.settings.strict_clips or not is_uuid(clip_id)):
            raise Refused(404, "clip not found.")
        return known or found_song(clip_id, self._clock())

    def _is_ready(self, operation: Operation, clip: Clip, scenario: Scenario) -> bool:
        return self.books.is_ready(operation.name, clip.clip_id, scenario.not_ready_times)

    def _accept(
        self,
        body: Body,
        scenario: Scenario,
        base_url: str,
        operation: Operation,
        sources: tuple[Clip, ...],
    ) -> ProviderTask:
        now = self._clock()
        task = ProviderTask(
            provider_task_id=str(uuid.uuid4()),
            operation=operation,
            request=body,
            scenario=scenario,
            base_url=base_url,
            price=operation.price_of(body),
            sources=sources,
            clips=tuple(new_clips(operation, body, sources, now)),
            accepted_at=now,
            done_at=now if operation.answers_at_once(body) else due(now, scenario),
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

    def _reply(self, task: ProviderTask) -> Reply:
        operation, task_id = task.operation, task.provider_task_id
        if operation.answers_at_once(task.request):
            return Reply(200, ANSWERS[operation.name](task))
        started: JSON = {"message": "success", "task_id": task_id}
        if not operation.step or not operation.uploads(task.request):
            return Reply(200, started)
        clip = next(new_clips(UPLOAD, task.request, (), task.accepted_at))
        self.books.keep(clip)
        steps = {"upload": _step(clip_id=clip.clip_id), operation.step: _step(task_id=task_id)}
        return Reply(200, {"code": 200, **started, "steps": steps})

    def _break_step(
        self,
        operation: Operation,
        broken: FailedStep,
        start: Callable[[Operation, tuple[Clip, ...]], ProviderTask],
    ) -> Reply:
        """Answer a submit one of whose steps fails: without a task, at most with the upload."""
        status = self.settings.failed_step_status
        if broken is FailedStep.UPLOAD:
            name, message = "upload", REFUSALS[Submit.UNREACHABLE_AUDIO_400][1]
            steps: JSON = {}
        else:
            name, message = operation.step, "Generation could not be started."
            steps = {"upload": _step(clip_id=start(UPLOAD, ()).clips[0].clip_id)}
        steps[name] = {"success": False, "error": message}
        body: JSON = {"code": status, "message": message, "failed_step": name, "steps": steps}
        return Reply(status, body)


def _step(**made: str) -> JSON:
    return {"success": True, **made}


def _refuse(scenario: Scenario) -> None:
    if scenario.submit not in REFUSALS:
        return
    seconds = scenario.retry_after_seconds
    headers = {"Retry-After": str(seconds)} if seconds else {}
    raise Refused(*REFUSALS[scenario.submit], headers)


def _as_sent(scenario: Scenario, reply: Reply, settings: Settings) -> Reply:
    """Change or lose the answer as the scenario says. The task is accepted already."""
    match scenario.submit:
        case Submit.DROP:
            raise ConnectionAbortedError("this scenario drops the answer")
        case Submit.SLOW:
            time.sleep(scenario.submit_delay_seconds)
        case Submit.ERROR_500:
            return _error(settings, scenario, 500, "Internal Server Error.")
        case Submit.UNREADABLE:
            return Reply(200, "<!doctype html><title>Please wait</title>")
    return reply


def _error(settings: Settings, scenario: Scenario, status: int, message: str) -> Reply:
    return Reply(status, error_body(settings, scenario.error_shape, status, message))
