"""Submits: a request is checked, paid for and answered, and its webhooks are on their way.

The scenario of a request decides what goes wrong: before anything is booked, with one of its steps,
or with the answer of a task that was accepted already.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from functools import partial

from .answers import ANSWERS
from .books import Books, Clip, ProviderTask, due
from .catalogue import Catalogue
from .clips import new_clips
from .fields import Body
from .limits import Pace
from .operations import Operation
from .payloads import NOT_READY
from .replies import JSON, Refused, Reply, error_reply
from .scenarios import FailedStep, Rulebook, Scenario, Submit
from .settings import Settings
from .table import TABLE
from .validation import check, find_operation, read_body
from .webhooks import Webhooks

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


class Submissions:
    """Accepts requests, books them, and answers as their scenario says."""

    def __init__(
        self,
        settings: Settings,
        *,
        rules: Rulebook,
        books: Books,
        catalogue: Catalogue,
        webhooks: Webhooks,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._books = books
        self._catalogue = catalogue
        self._webhooks = webhooks
        self._clock = clock
        self._pace = Pace(settings.submits_per_second)

    def submit(self, path: str, raw: bytes, base_url: str) -> Reply:
        """Accept a request, or raise `Refused`.

        Raises `ConnectionAbortedError` when the scenario wants the answer lost.
        """
        self._books.count("submits")
        scenario = self._rules.choose(raw.decode(errors="replace"))
        try:
            return self._submit(path, raw, base_url, scenario)
        except Refused as refusal:
            refusal.shape = scenario.error_shape
            raise

    def _submit(self, path: str, raw: bytes, base_url: str, scenario: Scenario) -> Reply:
        _refuse(scenario)
        self._pace.take(self._clock())
        body = read_body(raw)
        operation = find_operation(path, body, self._settings)
        check(operation, body, self._settings)
        sources = self._catalogue.sources(operation, body)
        if operation.may_wait and not self._is_ready(operation, sources[0], scenario):
            return NOT_READY
        start = partial(self._accept, body, scenario, base_url)
        if operation.uploads(body):
            time.sleep(scenario.upload_seconds)
            if operation.step and scenario.failed_step is not FailedStep.NONE:
                return self._break_step(operation, scenario.failed_step, start)
        task = start(operation, sources)
        log.info("submit %s %s %s", path, task.provider_task_id, scenario.submit)
        self._webhooks.send(task)
        return _as_sent(scenario, self._reply(task), self._settings)

    def _is_ready(self, operation: Operation, clip: Clip, scenario: Scenario) -> bool:
        return self._books.is_ready(operation.name, clip.clip_id, scenario.not_ready_times)

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
        self._books.accept(task)
        return task

    def _reply(self, task: ProviderTask) -> Reply:
        operation, task_id = task.operation, task.provider_task_id
        if operation.answers_at_once(task.request):
            return Reply(200, ANSWERS[operation.name](task))
        started: JSON = {"message": "success", "task_id": task_id}
        if not operation.step or not operation.uploads(task.request):
            return Reply(200, started)
        clip = next(new_clips(UPLOAD, task.request, (), task.accepted_at))
        self._books.keep(clip)
        steps = {"upload": _step(clip_id=clip.clip_id), operation.step: _step(task_id=task_id)}
        return Reply(200, {"code": 200, **started, "steps": steps})

    def _break_step(
        self,
        operation: Operation,
        broken: FailedStep,
        start: Callable[[Operation, tuple[Clip, ...]], ProviderTask],
    ) -> Reply:
        """Answer a submit one of whose steps fails: without a task, at most with the upload."""
        status = self._settings.failed_step_status
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
            return error_reply(settings, scenario.error_shape, 500, "Internal Server Error.")
        case Submit.UNREADABLE:
            return Reply(200, "<!doctype html><title>Please wait</title>")
    return reply
