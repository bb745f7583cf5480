"""The AI music service behind the port: each method finds its operation and asks a module.

The table of operations, and the modules that build requests, are loaded on first use. A receiver
needs them only if a delivery comes too late, so it starts without them.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from worker.core import wire
from worker.core.errors import InvalidPayload
from worker.core.job.models import JobId, JSONObject, ProviderTaskId
from worker.core.providers.aimusic import protocol, results
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

if TYPE_CHECKING:
    from worker.core.providers.aimusic.operations import Operation

BALANCE: Final = "account.credits"
"""The operation that asks for the credits that are left; it is free."""


class AIMusic:
    """See :class:`worker.core.ports.Provider`, which says what each method does."""

    name: str = "aimusic"
    task_modules: Sequence[str] = tuple(
        f"tasks.{module}"
        for module in ("sonic", "lyrics", "producer", "account", "riffusion", "nuro", "flows")
    )
    scheme: Scheme = SCHEME

    @cached_property
    def operations(self) -> Mapping[str, "Operation"]:
        from worker.core.providers.aimusic.operations import OPERATIONS  # noqa: PLC0415

        return OPERATIONS

    @cached_property
    def _asking(self) -> Any:
        from worker.core.providers.aimusic import submission  # noqa: PLC0415

        return submission

    def _find(self, operation: str) -> "Operation":
        return wire.find(self.operations, operation)

    def check(self, operation: str, parameters: Mapping[str, Any], **given: Any) -> JSONObject:
        body: JSONObject = self._asking.check_parameters(self._find(operation), parameters, **given)
        return body

    def signature(self, operation: str) -> inspect.Signature:
        from worker.core.providers.aimusic.signatures import signature  # noqa: PLC0415

        return signature(self._find(operation))

    def build_submit(
        self, operation: str, body: Mapping[str, Any], webhook: Webhook | None
    ) -> Request:
        request: Request = self._asking.build_request(self._find(operation), body, webhook)
        return request

    def read_submit(self, operation: str, answer: Answer) -> SubmitOutcome:
        return protocol.read_submit(self._find(operation), answer)

    def build_poll(self, operation: str, provider_task_id: ProviderTaskId) -> Request:
        request: Request = self._asking.build_poll(self._find(operation), provider_task_id)
        return request

    def read_poll(self, operation: str, answer: Answer) -> PollOutcome:
        return protocol.read_poll(self._find(operation), answer)

    def build_balance(self) -> Request:
        request: Request = self._asking.build_request(self._find(BALANCE), {}, None)
        return request

    def read_balance(self, answer: Answer) -> float:
        match protocol.read_submit(self._find(BALANCE), answer):
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
        said, row = parse(body), self._find(operation)
        return results.job_result(
            job_id, row, said, clip_id=clip_id, provider_task_id=provider_task_id
        )


def _credits(body: JSONObject) -> float:
    # The provider answers with a bare object (provider-api.md §3.7). Resellers wrap it in ``data``,
    # and may write numbers as text.
    data = body.get("data")
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    known = data if isinstance(data, dict) and data else body
    try:
        left = float(known["credits"]) + float(known.get("extra_credits") or 0)
    except (KeyError, TypeError, ValueError):
        left = math.nan
    if not math.isfinite(left):
        raise InvalidPayload("it takes the key, but its answer has no number of credits")
    return left
