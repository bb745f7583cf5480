"""The AI music service behind the port: each method finds its operation and asks a module."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

from worker.core.errors import InvalidPayload
from worker.core.job.models import JobId, JSONObject, ProviderTaskId
from worker.core.providers.aimusic import protocol, results, submission
from worker.core.providers.aimusic.operations import OPERATIONS, Operation, find
from worker.core.providers.aimusic.signatures import signature
from worker.core.providers.aimusic.signing import SCHEME
from worker.core.signing import Scheme
from worker.core.wire import (
    Answer,
    Completed,
    Delivery,
    PollOutcome,
    Refused,
    Request,
    SubmitOutcome,
    Webhook,
    parse,
)

BALANCE: Final = "account.credits"
"""The operation that asks for the credits that are left; it is free."""


class AIMusic:
    """See :class:`worker.core.ports.Provider`, which says what each method does."""

    name: str = "aimusic"
    operations: Mapping[str, Operation] = OPERATIONS
    task_modules: Sequence[str] = tuple(
        f"tasks.{module}"
        for module in ("sonic", "lyrics", "producer", "account", "riffusion", "nuro", "flows")
    )
    scheme: Scheme = SCHEME

    def check(self, operation: str, parameters: Mapping[str, Any], **given: Any) -> JSONObject:
        return submission.check_parameters(find(operation), parameters, **given)

    def signature(self, operation: str) -> inspect.Signature:
        return signature(find(operation))

    def build_submit(
        self, operation: str, body: Mapping[str, Any], webhook: Webhook | None
    ) -> Request:
        return submission.build_request(find(operation), body, webhook)

    def read_submit(self, operation: str, answer: Answer) -> SubmitOutcome:
        return protocol.read_submit(find(operation), answer)

    def build_poll(self, operation: str, provider_task_id: ProviderTaskId) -> Request:
        return submission.build_poll(find(operation), provider_task_id)

    def read_poll(self, operation: str, answer: Answer) -> PollOutcome:
        return protocol.read_poll(find(operation), answer)

    def build_balance(self) -> Request:
        return submission.build_request(find(BALANCE), {}, None)

    def read_balance(self, answer: Answer) -> float:
        match protocol.read_submit(find(BALANCE), answer):
            case Completed(said):
                return _credits(parse(said))
            case Refused(error):
                raise error
            case other:
                raise InvalidPayload(getattr(other, "reason", "it began a task"))

    def read_delivery(self, raw: bytes) -> Delivery:
        return protocol.read_delivery(raw)

    def read_result(
        self,
        job_id: JobId,
        operation: str,
        body: str,
        *,
        clip_id: str | None = None,
        provider_task_id: str | None = None,
    ) -> JSONObject:
        said, row = parse(body), find(operation)
        return results.job_result(
            job_id, row, said, clip_id=clip_id, provider_task_id=provider_task_id
        )


def _credits(body: JSONObject) -> float:
    # A bare object (provider-api.md §3.7); resellers wrap it as they wrap everything.
    known = body["data"] if isinstance(body.get("data"), dict) else body
    amounts = [known.get(name) for name in ("credits", "extra_credits")]
    numbers = [float(each) for each in amounts if isinstance(each, int | float)]
    if not numbers:
        raise InvalidPayload("the answer cannot be read")
    return sum(numbers)
