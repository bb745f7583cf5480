"""Deliver webhooks: sign, post, record, and try again (`provider-api.md` §5)."""

from __future__ import annotations

import hashlib
import heapq
import hmac
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue

import requests

from .settings import Settings

log = logging.getLogger(__name__)

Action = Callable[[], None]
Post = Callable[[str, bytes, Mapping[str, str]], int]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook, ready to be signed. The courier calls `record` for every attempt."""

    delivery_id: str
    event: str
    url: str
    secret: str
    body: bytes
    record: Callable[[dict[str, object]], None]
    retried: bool = True
    signed: bool = True


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Sign a body as `X-Webhook-Signature` carries it (§5.3)."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def signed_headers(delivery: Delivery, timestamp: int) -> dict[str, str]:
    """Return a delivery's headers (§5.2)."""
    content_type = {"Content-Type": "application/json"}
    if not delivery.signed:
        return content_type
    return {
        **content_type,
        "X-Webhook-Id": delivery.delivery_id,
        "X-Webhook-Event": delivery.event,
        "X-Webhook-Timestamp": str(timestamp),
        "X-Webhook-Signature": sign(delivery.secret, str(timestamp), delivery.body),
        "Idempotency-Key": delivery.delivery_id,
    }


class Scheduler:
    """Run actions at their times: one thread waits for the next, a few do the work.

    Threads start with the first action, and never keep the process from ending.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._started = False
        self._due: list[tuple[float, int, Action]] = []
        self._order = count()  # equal times keep the order in which they were given
        self._changed = threading.Condition()
        self._ready: SimpleQueue[Action] = SimpleQueue()

    def after(self, delay_seconds: float, action: Action) -> None:
        with self._changed:
            moment = time.monotonic() + delay_seconds
            heapq.heappush(self._due, (moment, next(self._order), action))
            self._changed.notify()
            self._start()

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        for target in [self._wait, *[self._work] * self._workers]:
            threading.Thread(target=target, daemon=True, name="webhooks").start()

    def _wait(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._changed.wait(self._pause())
                self._ready.put(heapq.heappop(self._due)[2])

    def _pause(self) -> float | None:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None

    def _work(self) -> None:
        while True:
            try:
                self._ready.get()()
            except Exception:
                log.exception("a delivery broke")


class Courier:
    """Post deliveries, and post a delivery again if its answer is not 2xx.

    The provider documents nothing about retries (§9.1, §9.3). So their number, their distance and
    whether each is signed anew are settings.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        settings: Settings,
        clock: Callable[[], float],
        post: Post | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._settings = settings
        self._clock = clock
        self._post = post or self._post_http

    def send_after(self, delay_seconds: float, deliveries: Sequence[Delivery]) -> None:
        """Send these, one after the other, when the time comes."""
        self._scheduler.after(delay_seconds, lambda: self.send(deliveries))

    def send(self, deliveries: Sequence[Delivery]) -> None:
        """Send these now, one after the other, and return when each was tried once."""
        for delivery in deliveries:
            self._attempt(delivery, 1, int(self._clock()))

    def _attempt(self, delivery: Delivery, attempt: int, timestamp: int) -> None:
        status = self._try(delivery, timestamp)
        delivered = status is not None and 200 <= status < 300
        if delivered or not delivery.retried or attempt > self._settings.retries:
            return
        delay = self._settings.retry_backoff_seconds * 2 ** (attempt - 1)
        self._scheduler.after(delay, lambda: self._retry(delivery, attempt + 1, timestamp))

    def _retry(self, delivery: Delivery, attempt: int, timestamp: int) -> None:
        replay = self._settings.replay_timestamp
        self._attempt(delivery, attempt, timestamp if replay else int(self._clock()))

    def _try(self, delivery: Delivery, timestamp: int) -> int | None:
        at = self._clock()
        try:
            status = self._post(delivery.url, delivery.body, signed_headers(delivery, timestamp))
        except (OSError, ValueError):  # requests' errors are OSErrors; a bad address, ValueError
            status = None
        delivery.record(
            {
                "delivery_id": delivery.delivery_id,
                "event": delivery.event,
                "at": at,
                "http_status": status,
            }
        )
        return status

    def _post_http(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands between the simulator and a receiver
            answer = session.post(
                url,
                data=body,
                headers=dict(headers),
                timeout=self._settings.delivery_timeout_seconds,
                allow_redirects=False,
            )
            return answer.status_code
