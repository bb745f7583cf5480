"""The provider without its HTTP: who may ask, how a task stands, what the account holds.

`Submissions` starts the tasks that it tells of.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .books import Books, ProviderTask
from .catalogue import Catalogue
from .deliveries import Courier, Post, Scheduler
from .payloads import poll_reply
from .replies import JSON, Refused, Reply, error_reply
from .scenarios import Rulebook
from .settings import Settings
from .submissions import Submissions
from .validation import retired
from .webhooks import Webhooks

log = logging.getLogger(__name__)


class Provider:
    """One account at the provider, with the rules by which its requests are treated."""

    def __init__(
        self,
        settings: Settings,
        post: Post | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.rules = Rulebook(settings.scenario)
        self.books = Books(settings.credits, settings.out_of_credits_status, settings.in_flight)
        self.catalogue = Catalogue(settings, self.books, clock)
        courier = Courier(Scheduler(settings.delivery_threads), settings, clock, post)
        self.submissions = Submissions(
            settings,
            rules=self.rules,
            books=self.books,
            catalogue=self.catalogue,
            webhooks=Webhooks(settings, self.books, courier),
            clock=clock,
        )
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
        return error_reply(self.settings, task.scenario.error_shape, 500, "Internal Server Error.")

    def balance(self) -> JSON:
        return {"credits": self.books.balance(self._clock()), "extra_credits": 0}

    def report(self, match: str) -> JSON:
        return self.books.report(self._clock(), match)
