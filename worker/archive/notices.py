"""Use case: tell a URL that a flow has ended, if the operator allows its host."""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

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
        egress = self.caller.egress
        if not self.secret or not (egress.hosts or egress.inner):
            raise InvalidRequest(
                "nobody is told here: FERMATA_NOTIFY_HOSTS and FERMATA_NOTIFY_SECRET are not set"
            )
        if len(url) > URL_LIMIT:
            raise InvalidRequest(f"longer than {URL_LIMIT} characters")
        try:
            egress.admit(url)
        except CallFailed as error:
            raise InvalidRequest(error.message) from None

    def tell(self, url: str, notice: Notice) -> None:
        """Tell a URL. Raises CallFailed; InvalidRequest if this process may not tell it."""
        # Again: the worker decides by its own settings, whatever the desk has let through.
        self.check(url)
        now, give_up = self.clock(), time.monotonic() + CALL_SECONDS
        body = notice.body(now=now)
        headers = notice.headers(self.secret, body, now=now)
        with self.caller.call("POST", url, headers=headers, body=body, give_up=give_up) as answer:
            # A redirect is no answer: it might lead anywhere, and the body is for this host.
            if not 200 <= answer.status < 300:
                why = f"{shown(url)}: HTTP {answer.status}"
                raise CallFailed(why) if answer.status == _GONE else later(why)


def open_notices(settings: Settings) -> Notices:
    """Put together what tells URLs."""
    egress = Egress(settings.notify.hosts, settings.notify.inner, "FERMATA_NOTIFY_HOSTS")
    caller = Caller(
        egress=egress,
        tls=ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH),
        connect_seconds=settings.connect_timeout_seconds,
    )
    return Notices(caller, settings.notify.secret)
