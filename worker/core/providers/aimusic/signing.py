"""The provider's webhook signature (provider-api.md §5.3)."""

from typing import Final

from worker.core.signing import Scheme

SCHEME: Final = Scheme(
    id_header="X-Webhook-Id",
    timestamp_header="X-Webhook-Timestamp",
    signature_header="X-Webhook-Signature",
    prefix="sha256=",
    event_header="X-Webhook-Event",
)
