"""The ports by which the engine reaches the world around it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from worker.core.job.models import JobId, JSONObject, ProviderTaskId
from worker.core.signing import Scheme
from worker.core.wire import (
    Answer,
    Delivery,
    Operation,
    PollOutcome,
    Request,
    SubmitOutcome,
    Webhook,
)

Clock = Callable[[], float]
"""Returns the time now, in Unix seconds."""


class Transport(Protocol):
    """Carries requests to the provider."""

    def send(self, request: Request) -> Answer:
        """Send one request, once.

        Raises NeverSent, AnswerLost.
        """


class Provider(Protocol):
    """One provider: its operations, and all that is said to it and by it. It opens nothing.

    An operation is given by its name. What a method does not understand raises InvalidPayload, or
    is an outcome that says so.
    """

    @property
    def name(self) -> str:
        """Stands in the address of its webhooks: ``/webhooks/<name>/<job_id>``."""

    @property
    def operations(self) -> Mapping[str, Operation]:
        """Its operations, by their names."""

    @property
    def task_modules(self) -> Sequence[str]:
        """The modules that declare tasks of its operations; the other operations need none."""

    @property
    def scheme(self) -> Scheme:
        """How it signs its webhooks."""

    def check(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        *,
        source: Any = None,
        pick: Any = None,
        extra: Mapping[str, Any] | None = None,
    ) -> JSONObject:
        """Check a request before it costs anything; returns its body, without the webhook.

        Args:
            source, pick: what a step before it brings, and which part of that.
            extra: fields that are passed through unchecked.

        Raises InvalidRequest.
        """

    def signature(self, operation: str) -> inspect.Signature:
        """Return the parameters of an operation's task."""

    def build_submit(
        self, operation: str, body: Mapping[str, Any], webhook: Webhook | None
    ) -> Request:
        """Build the request that submits."""

    def read_submit(self, operation: str, answer: Answer) -> SubmitOutcome:
        """Read what the answer to a submit means."""

    def build_poll(self, operation: str, provider_task_id: ProviderTaskId) -> Request:
        """Build the request that asks how a provider task stands."""

    def read_poll(self, operation: str, answer: Answer) -> PollOutcome:
        """Read what the answer to a poll means."""

    def build_balance(self) -> Request:
        """Build the request that asks for the credits that are left."""

    def read_balance(self, answer: Answer) -> float:
        """Read how many credits are left.

        Raises ProviderError, InvalidPayload.
        """

    def read_delivery(self, raw: bytes) -> Delivery:
        """Read an authentic webhook as far as the receiver needs.

        Raises InvalidPayload.
        """

    def read_result(
        self,
        job_id: JobId,
        operation: str,
        body: str,
        *,
        clip_id: str | None = None,
        provider_task_id: str | None = None,
    ) -> JSONObject:
        """Read final words into a job's result: ``clips``, ``data``, ``partial``, and whose it is.

        Args:
            clip_id: the source clip, which a derivative without clips of its own passes on.
            provider_task_id: for words that do not name it.

        Raises InvalidPayload, TaskFailed, UnexpectedResponse.
        """
