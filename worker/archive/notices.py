"""Use case: tell a URL that a flow has ended, if the operator allows its host."""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from worker.archive.outward import Caller, later
from worker.core.archive.egress import Egress, shown
from worker.core.errors import CallFailed, InvalidRequest
from worker.core.notices import Notice
from worker.settings import Settings

CALL_SECONDS: Final = 15
"""How long one call may take: as long as Standard Webhooks asks a sender to wait."""
URL_LIMIT: Final = 1024
_GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Notices:
    """Tells URLs, with our signature."""

    caller: Caller
    secret: bytes = field(repr=False)
    clock: Callable[[], float] = time.time

    def check(self, url: str) -> None:
        """Check a URL before anything is enqueued; its addresses are judged when it is told.

        Raises InvalidRequest.
        """
        self._require_settings()
        if len(url) > URL_LIMIT:
            raise InvalidRequest(f"longer than {URL_LIMIT} characters")
        try:
            self.caller.egress.admit(url)
        except CallFailed as error:
            raise InvalidRequest(error.message) from None

    def tell(self, url: str, notice: Notice) -> None:
        """Tell a URL. Raises CallFailed; InvalidRequest if this process tells nobody.

        A worker decides by its own settings, whatever the desk has let through.
        """
        self._require_settings()
        now, give_up = self.clock(), time.monotonic() + CALL_SECONDS
        body = notice.body(now=now)
        headers = notice.headers(self.secret, body, now=now)
        call = self.caller.call("POST", url, headers=headers, body=body, give_up=give_up)
        try:
            with call as answer:
                status = answer.status
        except CallFailed as error:
            # The path may be a secret too: some receivers know their senders by nothing else.
            message = error.message.replace(shown(url), host_of(url))
            raise CallFailed(message, error.details) from None
        # A redirect is no answer: it might lead anywhere, and the body is for this host.
        if not 200 <= status < 300:
            why = f"{host_of(url)}: HTTP {status}"
            raise CallFailed(why) if status == _GONE else later(why)

    def _require_settings(self) -> None:
        egress = self.caller.egress
        if not self.secret or not (egress.hosts or egress.inner):
            raise InvalidRequest(
                "nobody is told here: FERMATA_NOTIFY_HOSTS and FERMATA_NOTIFY_SECRET are not set"
            )


def host_of(url: str) -> str:
    """Name the host of a URL that was checked, for a log."""
    return urlsplit(url).hostname or ""


def open_notices(settings: Settings) -> Notices:
    """Put together what tells URLs."""
    egress = Egress(settings.notify.hosts, settings.notify.inner, "FERMATA_NOTIFY_HOSTS")
    caller = Caller(
        egress=egress,
        tls=ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH),
        connect_seconds=settings.connect_timeout_seconds,
    )
    return Notices(caller, settings.notify.secret)
