"""Collects the facts that :mod:`worker.core.health.checks` judges. It changes nothing anywhere."""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import requests
from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import AuthenticationError, ResponseError

from worker.core import keys, redis_url
from worker.core.contract import PROBE_BODY, PROBE_ID, QUEUE
from worker.core.errors import FermataError
from worker.core.health import checks, surroundings
from worker.core.health.checks import Finding, Level, Server
from worker.core.providers import chosen
from worker.core.signing import derive_secret
from worker.core.wire import Answer, AnswerLost, NeverSent
from worker.core.wording import told
from worker.doctor import rights, shadows
from worker.provider import FAILURES, HTTPTransport, cause, proxies
from worker.settings import Settings
from worker.store import connection
from worker.store.connection import StoreUnavailable

ANSWER_SECONDS: Final = 5
WORKERS_SECONDS: Final = 1.5
_ANSWER_BYTES: Final = 65536
_CELERYS_VISIBILITY_SECONDS: Final = 3600
_SECRETS: Final = ("FERMATA_API_KEY=", "FERMATA_SIGNING_KEYS=", "FERMATA_DESK_TOKENS=")

AWAY: Final = "connection"
"""The name of the finding about a server that cannot be reached."""


def examine(settings: Settings, app: Celery) -> list[Finding]:
    """Check everything that this machine can see. It takes seconds, longer if a server is away."""
    return checks.allow(
        [
            *_servers(settings),
            *_celery(settings, app),
            *_workers(settings, app),
            *_way_back(settings),
            *_provider(settings),
            *_desk(settings),
            *_files(),
        ],
        settings.allowed_risks,
    )


def risks(settings: Settings, app: Celery) -> list[Finding]:
    """Return the risks, those that the operator allows too, and the servers that are away."""
    found = [*_servers(settings), *_celery(settings, app)]
    risky = [each for each in found if each.refused or each.name == AWAY]
    return checks.allow(risky, settings.allowed_risks)


# -- Redis or Valkey --------------------------------------------------------------------------


def _servers(settings: Settings) -> Iterator[Finding]:
    for where, url in _databases(settings).items():
        try:
            yield from _server(where, url, settings)
        except StoreUnavailable as error:
            yield _away(error, where)


def _away(error: Exception, where: str) -> Finding:
    what, do = "It cannot be reached", "Start it, or correct its URL."
    if isinstance(error.__cause__ or error, AuthenticationError):
        what, do = "It lets nobody in by this URL", "Correct the user and the password in its URL."
    said = f"{what}: {str(error).rstrip('.') or told(error)}."
    return Finding(AWAY, Level.DANGER, said, do, where)


def _databases(settings: Settings) -> Mapping[str, str]:
    """Name each server by what it holds; several URLs may lead to one server."""
    holds: dict[object, list[str]] = {}
    urls: dict[object, str] = {}
    for what, url in (
        ("state", settings.redis_url),
        ("broker", settings.broker_url),
        ("results", settings.result_backend),
    ):
        server = redis_url.read(url).server if redis_url.is_redis(url) else url
        holds.setdefault(server, []).append(what)
        urls.setdefault(server, url)
    return {", ".join(what): urls[server] for server, what in holds.items()}


def _server(where: str, url: str, settings: Settings) -> Iterator[Finding]:
    if not redis_url.is_redis(url):
        scheme = urlsplit(url).scheme
        said = f"{scheme} is not Redis: whether it keeps what it is told is not checked."
        yield Finding("server", Level.NOTE, said, where=where)
        return
    client = connection.connect(url, timeout_seconds=settings.redis_timeout_seconds, retries=0)
    try:
        user, held = redis_url.read(url).username or "default", where.split(", ")
        allowed = checks.check_rights(user, rights.missing(client, held))
        yield replace(allowed, where=where)
        if "broker" in held and not rights.may_send(client, settings.follow_up_queue):
            yield replace(checks.check_send(user, settings.follow_up_queue), where=where)
        for finding in checks.check_server(_ask(client)):
            yield replace(finding, where=where)
        if where.startswith("state") and not allowed.refused:
            yield checks.check_sweep(_overdue_seconds(client))
    finally:
        client.close()


def _ask(client: "Redis") -> Server:
    info: Mapping[str, Any] = {}
    config: dict[str, str] = {}
    ahead, doubt = None, 0.0
    # The user of a rented Redis may not ask everything.
    with suppress(ResponseError):
        info = cast("Mapping[str, Any]", client.info())
    for name in ("appendfsync", "save"):  # one by one: Redis 6.2 takes no more
        with suppress(ResponseError):
            config |= cast("dict[str, str]", client.config_get(name))
    with suppress(ResponseError):
        ahead, doubt = _clock(client)
    return Server(info, config, ahead, doubt)


def _clock(client: "Redis") -> tuple[float, float]:
    """Return by how much the server's clock is ahead, and how wrong that may be."""
    before = time.time()
    seconds, microseconds = client.time()
    after = time.time()
    return seconds + microseconds / 1e6 - (before + after) / 2, (after - before) / 2


def _overdue_seconds(client: "Redis") -> float:
    first = cast("list[tuple[str, float]]", client.zrange(keys.DUE, 0, 0, withscores=True))
    return max(time.time() - first[0][1], 0) if first else 0


# -- Celery -----------------------------------------------------------------------------------


def _celery(settings: Settings, app: Celery) -> Iterator[Finding]:
    conf, longest = app.conf, checks.longest_deadline(settings.policy)
    results = _seconds(conf.result_expires)
    chords = _seconds(conf.result_chord_expires)
    yield checks.check_expiry("result_expires", results, longest)
    if chords is not None:
        yield checks.check_expiry("result_chord_expires", chords, longest)
    if urlsplit(settings.broker_url).scheme.startswith("amqp"):
        return
    options = conf.broker_transport_options
    visibility = options.get("visibility_timeout", _CELERYS_VISIBILITY_SECONDS)
    yield checks.check_visibility(visibility)


def _seconds(value: timedelta | float | None) -> float | None:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _workers(settings: Settings, app: Celery) -> Iterator[Finding]:
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1)
            asking = app.control.inspect(timeout=WORKERS_SECONDS, connection=connection)
            replies = asking.active_queues() or {}
            slots = _slots(app, connection, replies)
            waiting = _waiting(settings.follow_up_queue, connection)
    except (OperationalError, StoreUnavailable, OSError) as error:
        if isinstance(error.__cause__ or error, ResponseError):  # the broker is there, and refuses
            yield Finding("workers", Level.NOTE, f"They cannot be asked: {told(error)}.")
        else:
            yield _away(error, "broker")
        return
    consumed = {name: {queue["name"] for queue in queues} for name, queues in replies.items()}
    yield checks.check_workers(consumed)
    if slots:
        yield checks.check_slots(slots)
    yield checks.check_follow_ups(settings.follow_up_queue, waiting, consumed)


def _slots(app: Celery, connection: Any, replies: Mapping[str, Any]) -> int:
    """Return how many tasks the workers of the submits' queue run at once; 0 if none answers."""
    # Only these workers are asked, so that the call returns when the last of them has answered.
    nodes = [node for node, queues in replies.items() if QUEUE in (q["name"] for q in queues)]
    if not nodes:
        return 0
    asking = app.control.inspect(
        nodes, timeout=WORKERS_SECONDS, connection=connection, limit=len(nodes)
    )
    return sum(stats["pool"]["max-concurrency"] for stats in (asking.stats() or {}).values())


def _waiting(queue: str, connection: Any) -> int:
    """Return how many messages stand in a queue; a queue that does not exist holds none."""
    try:
        with connection.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors:
        return 0


# -- the provider, and the way back from it ---------------------------------------------------


def _way_back(settings: Settings) -> Iterator[Finding]:
    yield surroundings.check_keys(settings.signing_keys, settings.api_key)
    yield surroundings.check_public_url(settings.public_url)
    if settings.public_url:
        base = settings.public_url.rstrip("/")
        delivered = _deliver(f"{base}/webhooks/{chosen().name}/{PROBE_ID}", settings.signing_keys)
        yield surroundings.check_receiver(delivered, signed=bool(settings.signing_keys))
        if isinstance(delivered, Answer):
            yield surroundings.check_health(_request("GET", f"{base}/healthz"))


def _deliver(url: str, signing_keys: tuple[str, ...]) -> Answer | str:
    """Deliver as the provider does, for the probe's id, which no job has: it changes nothing."""
    body, timestamp = PROBE_BODY, str(int(time.time()))
    # Without a key, any one will do: our receiver shows itself by the way in which it refuses.
    key = signing_keys[0] if signing_keys else uuid.uuid4().hex
    secret, delivery_id = derive_secret(key, PROBE_ID), str(uuid.uuid4())
    headers = chosen().scheme.headers(secret, timestamp, body, delivery_id=delivery_id)
    return _request("POST", url, data=body, headers=headers)


def _request(method: str, url: str, **content: Any) -> Answer | str:
    try:
        # Redirects are not followed, and little is read: this may be anybody's server.
        with requests.request(
            method,
            url,
            proxies=proxies(url),
            timeout=ANSWER_SECONDS,
            allow_redirects=False,
            stream=True,
            **content,
        ) as response:
            body = response.raw.read(_ANSWER_BYTES, decode_content=True)
            return Answer(response.status_code, dict(response.headers), body)
    except FAILURES as error:
        return cause(error)


def _provider(settings: Settings) -> Iterator[Finding]:
    yield surroundings.check_provider_url(settings.provider_url)
    if not settings.api_key:
        yield surroundings.NO_API_KEY
        return
    transport = HTTPTransport(
        settings.provider_url,
        settings.api_key,
        connect_seconds=settings.connect_timeout_seconds,
        total_seconds=settings.policy.submit_timeout_seconds,
    )
    try:
        answer = transport.send(chosen().build_balance())
    except (NeverSent, AnswerLost) as error:
        yield surroundings.check_account(error)
        return
    try:
        yield surroundings.check_account(chosen().read_balance(answer))
    except FermataError as error:
        yield surroundings.check_account(error)
    ahead = _ahead_seconds(answer)
    if ahead is not None:
        yield surroundings.check_provider_clock(ahead, settings.webhook_tolerance_seconds)


def _ahead_seconds(answer: Answer) -> float | None:
    dates = [value for name, value in answer.headers.items() if name.lower() == "date"]
    try:
        return parsedate_to_datetime(dates[0]).timestamp() - time.time()
    except (IndexError, ValueError):
        return None


def _desk(settings: Settings) -> Iterator[Finding]:
    url = settings.desk_url.rstrip("/")
    yield surroundings.check_desk(url, _request("GET", f"{url}/healthz"))
    yield surroundings.check_visitors([token.visitor for token in settings.desk_tokens])


def _files() -> Iterator[Finding]:
    for said in shadows.in_this_folder():
        yield Finding("names", Level.DANGER, said, shadows.DO)
    path = Path(".env")
    with suppress(OSError, UnicodeDecodeError):
        lines = path.read_text("utf-8-sig").splitlines()
        if any(line.startswith(_SECRETS) and line.partition("=")[2] for line in lines):
            yield surroundings.check_file(str(path), path.stat().st_mode)
