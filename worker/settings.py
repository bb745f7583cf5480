"""Settings: the only module that reads the environment. All errors are reported at once."""

import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from dotenv import dotenv_values
from environs import EnvValidationError, FileAwareEnv
from marshmallow import ValidationError, validate

from worker import text
from worker.core import broker_url, redis_url
from worker.core.archive import names
from worker.core.archive.egress import (
    PROVIDER_HOSTS,
    Origin,
    is_address,
    is_public,
    is_this_machine,
    read_origin,
)
from worker.core.errors import CallFailed, ConfigError
from worker.core.health.checks import DESK_PORT, Risk
from worker.core.job.lanes import Limits
from worker.core.job.timing import OnUnconfirmed, Policy

if TYPE_CHECKING:
    from worker.core.visitors import Token

DEFAULT_PROVIDER_URL: Final = "https://api.aimusicapi.ai/api/v1"
CELERYS_QUEUE: Final = "celery"
"""The default queue of a backend's own tasks, which is Celery's."""

_KEY_LENGTH: Final = 32
_KEY_VARIETY: Final = 10  # different characters: a long key may still be a single repeated word
_WEBHOOK_PATH_LENGTH: Final = 200  # more than /webhooks/aimusic/ and the longest job id (128)
_URL_LIMIT: Final = 1024

_OF_THE_PROCFILE: Final = frozenset({"FERMATA_HOST"})
# Kubernetes sets these in every container if the name of a Service begins with "fermata".
_OF_KUBERNETES: Final = re.compile(r"FERMATA_(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT(_\d+_\w+)?)")

# A submission may hold its slot for more than twice as long (worker/core/job/timing.py).
_SUBMIT: Final = validate.Range(0, 300, min_inclusive=False)
# A record must outlive every redelivery of its messages, and a chord every deadline.
_DEADLINE: Final = validate.Range(0, 7 * 86400, min_inclusive=False)
# The same limit for the time before a job's first attempt. All three together stay below the 21
# days that results and chords live.
_QUEUED: Final = validate.Range(0, 6 * 86400, min_inclusive=False)


class Role(StrEnum):
    """The kind of a process, which decides the settings that it must have."""

    CLIENT = "client"
    RECEIVER = "receiver"
    WORKER = "worker"
    DESK = "desk"


_REQUIRED: Final = {
    Role.CLIENT: (),
    Role.DESK: (),
    Role.RECEIVER: ("FERMATA_SIGNING_KEYS",),
    Role.WORKER: ("FERMATA_API_KEY", "FERMATA_PUBLIC_URL", "FERMATA_SIGNING_KEYS"),
}


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """The settings of ``archive.store``: where files go, their names, and their allowed hosts."""

    url: str = field(repr=False)
    template: str
    hosts: tuple[str, ...]
    max_bytes: int


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """Who may be told that a flow has ended."""

    hosts: tuple[str, ...]
    """Names, each with all hosts below it."""
    inner: tuple[Origin, ...]
    """Inner addresses that the operator has named, with scheme and port."""
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a process. Secrets, and URLs that may hold one, are not in the repr."""

    redis_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    result_backend: str = field(repr=False)
    follow_up_queue: str
    provider_url: str
    api_key: str = field(repr=False)
    public_url: str
    signing_keys: tuple[str, ...] = field(repr=False)
    webhook_tolerance_seconds: int
    webhook_max_bytes: int
    redis_timeout_seconds: float
    connect_timeout_seconds: float
    sweep_every_seconds: float
    visibility_seconds: int
    credits_every_seconds: float
    policy: Policy
    limits: Limits
    archive: ArchiveSettings
    notify: NotifySettings
    desk_url: str
    """Where the desk is reached from here."""
    desk_tokens: tuple["Token", ...] = field(repr=False)
    desk_hosts: tuple[str, ...]
    """Names by which the desk may be reached, besides those of this machine itself."""
    timetable: Path | None
    data_dir: Path
    log_level: str
    log_format: str
    allowed_risks: frozenset[str]


def load(role: Role) -> Settings:
    """Read the settings of a role: environment, then ``.env``, then a running ``fermata dev``.

    Raises ConfigError that names every wrong or missing setting at once, and no secret.
    """
    env = _environment()
    with _one_error():
        data_dir = _data_dir(env)
        running = dev_environment(data_dir)
        # Read last, and for unset variables only: the user's own settings win.
        if not _given(env, "FERMATA_REDIS_URL") and running.is_file():
            env.read_env(str(running), recurse=False)
            _refuse_mixture(env, dotenv_values(running))
        settings = _read(env, data_dir)
        missing = {n: ["Required."] for n in _REQUIRED[role] if not _given(env, n)}
        if not settings.redis_url:
            missing["FERMATA_REDIS_URL"] = [
                "Required, unless `fermata dev` runs here: start that, or set it."
            ]
        _seal(env, missing)
    _require_one_broker(settings)
    return settings


def check() -> None:
    """Check the settings that the user has given; ``fermata dev`` itself sets the rest.

    Raises ConfigError, as ``load`` does.
    """
    env = _environment()
    with _one_error():
        _read(env, _data_dir(env))
        _seal(env, {})


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigError(f"settings: {error}") from None


def configured(name: str) -> str:
    """Return a setting that the user has given, in the environment or in ``.env``; else ''."""
    return _environment().str(name, "") or ""


class _Env(FileAwareEnv):
    """Reads ``.env`` and the files of secrets as text that people wrote (core/text.py)."""

    def _load_dotenv(self, path: str | Path, *, override: bool = False) -> None:
        for name, value in _read_dotenv(Path(path)).items():
            if value is not None and (override or name not in self._environ):
                self._environ[name] = value

    def _get_value(self, env_key: str, default: Any) -> Any:
        name = f"{env_key}_FILE"
        path = os.environ.get(name) or self._environ.get(name)
        if not path:
            return super()._get_value(env_key, default)
        try:
            return text.read(Path(path)).strip()
        except text.Unreadable as error:
            raise ValueError(f"{name}: {error}") from None


def _read_dotenv(path: Path, *, interpolate: bool = True) -> dict[str, str | None]:
    return dotenv_values(stream=io.StringIO(text.read(path)), interpolate=interpolate)


def _environment() -> FileAwareEnv:
    env = _Env(eager=False)  # not eager: errors are collected until ``seal``, and raised together
    with _one_error():
        if Path(".env").is_file():
            env.read_env(".env", recurse=False)
    return env


def _data_dir(env: FileAwareEnv) -> Path:
    return Path(env.str("FERMATA_DATA_DIR", ".fermata"))


def dev_environment(data_dir: Path) -> Path:
    """Name the file in which a running ``fermata dev`` tells other commands its settings."""
    return data_dir / "dev.env"


def _given(env: FileAwareEnv, name: str) -> bool:
    return bool(env.str(name, ""))


def _refuse_mixture(env: FileAwareEnv, running: Mapping[str, str | None]) -> None:
    """Refuse to send a running ``fermata dev``'s messages to another system's broker."""
    for name in ("FERMATA_BROKER_URL", "FERMATA_RESULT_BACKEND"):
        own = running.get(name) or running.get("FERMATA_REDIS_URL")
        if _given(env, name) and env.str(name) != own:
            raise ConfigError(
                f"{name} is set and FERMATA_REDIS_URL is not, while `fermata dev` runs here with a "
                "broker of its own. Unset it, or set both."
            )


def _seal(env: FileAwareEnv, missing: dict[str, list[str]]) -> None:
    wrong: dict[str, Any] = missing | _misspelt(env)
    try:
        env.seal()
    except EnvValidationError as error:
        wrong.update(cast("dict[str, Any]", error.error_messages))
    if wrong:
        lines = (f"  {name}: {' '.join(map(str, why))}" for name, why in sorted(wrong.items()))
        raise ConfigError("wrong settings:\n" + "\n".join(lines), {"settings": sorted(wrong)})


def _misspelt(env: FileAwareEnv) -> dict[str, list[str]]:
    """Find each variable whose name begins as ours do, but that nothing has read."""
    known = {*env.dump(), *_OF_THE_PROCFILE}
    return {
        name: [_meant(name, known)]
        for name in {*os.environ, *_dotenv_names()}
        if name.startswith("FERMATA_")
        and name not in known
        and name.removesuffix("_FILE") not in known
        and not _OF_KUBERNETES.fullmatch(name)
    }


def _dotenv_names() -> set[str]:
    path = Path(".env")
    return set(_read_dotenv(path, interpolate=False)) if path.is_file() else set()


_GONE: Final = {
    "RESUME_SECONDS": "It is gone: a job is resumed for as long as that takes. Remove it.",
}
"""Former settings, by their names without ``FERMATA_``, and what to do about each."""


def _meant(name: str, known: set[str]) -> str:
    if gone := _GONE.get(name.removeprefix("FERMATA_")):
        return gone
    close = get_close_matches(name, known, n=1, cutoff=0.8)
    instead = f"did you mean {close[0]}?" if close else ".env.example names them all."
    return f"There is no such setting; {instead}"


def _read(env: FileAwareEnv, data_dir: Path) -> Settings:
    state_url = env.str("FERMATA_REDIS_URL", "", validate=_redis_url) or ""
    positive = validate.Range(min=0, min_inclusive=False)
    # A wrong value reads as None until the errors are raised together.
    timeout = env.float("FERMATA_SUBMIT_TIMEOUT_SECONDS", 30, validate=_SUBMIT) or 0
    return Settings(
        redis_url=state_url,
        broker_url=env.str("FERMATA_BROKER_URL", "", validate=_broker_url) or state_url,
        result_backend=env.str("FERMATA_RESULT_BACKEND", "", validate=_backend_url) or state_url,
        follow_up_queue=env.str("FERMATA_FOLLOW_UP_QUEUE", "", validate=_queue_name)
        or CELERYS_QUEUE,
        provider_url=env.str("FERMATA_PROVIDER_URL", DEFAULT_PROVIDER_URL, validate=_base_url),
        api_key=env.str("FERMATA_API_KEY", "", validate=_api_key),
        public_url=env.str("FERMATA_PUBLIC_URL", "", validate=_base_url),
        signing_keys=tuple(
            env.list("FERMATA_SIGNING_KEYS", [], subcast=str.strip, validate=_strong_keys) or ()
        ),
        webhook_tolerance_seconds=env.int(
            "FERMATA_WEBHOOK_TOLERANCE_SECONDS", 300, validate=positive
        ),
        webhook_max_bytes=env.int("FERMATA_WEBHOOK_MAX_BYTES", 1024 * 1024, validate=positive),
        redis_timeout_seconds=env.float("FERMATA_REDIS_TIMEOUT_SECONDS", 5, validate=positive),
        connect_timeout_seconds=env.float("FERMATA_CONNECT_TIMEOUT_SECONDS", 5, validate=positive),
        sweep_every_seconds=env.float("FERMATA_SWEEP_EVERY_SECONDS", 2, validate=positive),
        visibility_seconds=env.int("FERMATA_VISIBILITY_SECONDS", 900, validate=positive),
        credits_every_seconds=env.float("FERMATA_CREDITS_EVERY_SECONDS", 60, validate=positive),
        limits=_read_limits(env),
        policy=Policy(
            submit_timeout_seconds=timeout,
            poll_first_seconds=env.float("FERMATA_POLL_FIRST_SECONDS", None, validate=positive),
            poll_every_seconds=env.float("FERMATA_POLL_EVERY_SECONDS", 20, validate=positive),
            unconfirmed_grace_seconds=env.float(
                "FERMATA_UNCONFIRMED_GRACE_SECONDS", 900, validate=positive
            ),
            polls_per_second=env.float("FERMATA_POLLS_PER_SECOND", 10, validate=positive),
            on_unconfirmed=OnUnconfirmed(
                env.str(
                    "FERMATA_ON_UNCONFIRMED", "fail", validate=validate.OneOf(list(OnUnconfirmed))
                )
                or OnUnconfirmed.FAIL
            ),
            backlog_seconds=env.float("FERMATA_BACKLOG_SECONDS", 900, validate=positive),
            queued_seconds=env.float("FERMATA_QUEUED_SECONDS", 86400, validate=_QUEUED),
            held_seconds=env.float("FERMATA_HELD_SECONDS", 6 * 86400, validate=_QUEUED),
            deadline_seconds=env.float("FERMATA_DEADLINE_SECONDS", None, validate=_DEADLINE),
            retention_seconds=env.int(
                "FERMATA_RETENTION_SECONDS", 7 * 86400, validate=validate.Range(86400, 366 * 86400)
            ),
        ),
        archive=_read_archive(env, data_dir),
        notify=_read_notify(env),
        desk_tokens=_tokens(env),
        desk_hosts=_hosts(env, "FERMATA_DESK_HOSTS", ()),
        data_dir=data_dir,
        desk_url=env.str("FERMATA_DESK_URL", f"http://127.0.0.1:{DESK_PORT}", validate=_desk_url),
        timetable=env.path("FERMATA_TIMETABLE", None),
        log_level=env.str(
            "FERMATA_LOG_LEVEL",
            "INFO",
            validate=validate.OneOf(("DEBUG", "INFO", "WARNING", "ERROR")),
        ),
        log_format=env.str(
            "FERMATA_LOG_FORMAT", "console", validate=validate.OneOf(("console", "json"))
        ),
        allowed_risks=frozenset(
            env.list("FERMATA_ALLOW_RISKS", [], subcast=str.strip, validate=_known_risks) or ()
        ),
    )


def _read_limits(env: FileAwareEnv) -> Limits:
    positive = validate.Range(min=0, min_inclusive=False)
    return Limits(
        submits_per_second=env.float("FERMATA_SUBMITS_PER_SECOND", None, validate=positive),
        burst=env.int("FERMATA_SUBMIT_BURST", 1, validate=positive) or 1,
        in_flight=env.int("FERMATA_IN_FLIGHT", None, validate=positive),
        credit_floor=env.float("FERMATA_CREDIT_FLOOR", None),
        probe_seconds=env.float("FERMATA_PROBE_SECONDS", 30, validate=positive) or 30,
        weights=_weights(env.str("FERMATA_TENANT_WEIGHTS", "", validate=_weights) or ""),
    )


def _weights(text: str) -> dict[str, float]:
    """Read ``tenant=weight``, with commas between."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    try:
        weights = {tenant.strip(): float(weight) for tenant, _, weight in pairs}
    except ValueError:
        raise ValidationError("Must be tenant=weight, with commas between.") from None
    if not all(0.001 <= weight <= 1000 for weight in weights.values()):
        raise ValidationError("A tenant's weight must be from 0.001 to 1000.")
    return weights


def _read_archive(env: FileAwareEnv, data_dir: Path) -> ArchiveSettings:
    # Not Path.as_uri(), which would write %20 for a space: fsspec takes a % as part of the name.
    local = f"file://{(data_dir / 'archive').absolute()}"
    return ArchiveSettings(
        url=env.str("FERMATA_ARCHIVE_URL", local, validate=_archive_url),
        template=env.str("FERMATA_ARCHIVE_TEMPLATE", names.DEFAULT_TEMPLATE, validate=_template),
        hosts=_hosts(env, "FERMATA_ARCHIVE_HOSTS", PROVIDER_HOSTS),
        max_bytes=env.int("FERMATA_ARCHIVE_MAX_BYTES", 2 * 1024**3, validate=validate.Range(min=1)),
    )


def _read_notify(env: FileAwareEnv) -> NotifySettings:
    listed = env.list("FERMATA_NOTIFY_HOSTS", [], subcast=str.strip, validate=_told_hosts) or ()
    secret = env.str("FERMATA_NOTIFY_SECRET", "", validate=_notify_secret) or ""
    return NotifySettings(
        hosts=tuple(each.strip(".").lower() for each in listed if each and "://" not in each),
        inner=tuple(read_origin(each) for each in listed if "://" in each),
        secret=_secret_of(secret),
    )


def _told_hosts(hosts: list[str]) -> None:
    for host in filter(None, hosts):
        if "://" in host:
            _inner_origin(host)
        elif (is_address(host) and not is_public(host)) or not re.fullmatch(r"[\w.:-]+", host):
            raise ValidationError(
                f"{host!r} is no public host: name an inner one as http://10.0.0.5:8080."
            )


def _inner_origin(url: str) -> None:
    try:
        origin = read_origin(url)
    except CallFailed as error:
        raise ValidationError(error.message) from None
    # A name could change to another inner address at any time, and with it the service behind it.
    if not is_address(origin.host) and origin.host != "localhost":
        raise ValidationError(f"{url!r} must name an address; write other hosts without https://.")
    if origin.target != "/":
        raise ValidationError(f"{url!r} must end with its port.")


def _notify_secret(value: str) -> None:
    try:
        _secret_of(value)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def _secret_of(text: str) -> bytes:
    """Read the secret by which a told URL knows us. Raises ValueError."""
    from worker.core.notices import read_secret  # noqa: PLC0415  (the receiver tells nobody)

    return read_secret(text) if text else b""


def _hosts(env: FileAwareEnv, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    hosts = env.list(name, list(default), subcast=lambda host: host.strip().strip(".").lower())
    return tuple(filter(None, hosts or ()))


def _tokens(env: FileAwareEnv) -> tuple["Token", ...]:
    from worker.core.visitors import read_token  # noqa: PLC0415  (nobody visits the receiver)

    texts = env.list("FERMATA_DESK_TOKENS", [], subcast=str.strip, validate=_desk_tokens)
    return tuple(map(read_token, texts or ()))


def _desk_tokens(texts: list[str]) -> None:
    from worker.core.visitors import wrong_tokens  # noqa: PLC0415  (as above)

    if wrong := list(wrong_tokens(texts)):
        raise ValidationError(wrong)


def _archive_url(value: str) -> None:
    scheme, _, rest = value.partition("://")
    if not rest or not scheme.isidentifier() or scheme in {"http", "https"}:
        raise ValidationError("Must be an fsspec URL to write to, as file:///music or s3://music.")


def _template(value: str) -> None:
    try:
        names.check_template(value)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def _redis_url(value: str) -> None:
    if value and not redis_url.is_redis(value):
        schemes = "://, ".join(redis_url.SCHEMES)
        raise ValidationError(f"Must be a URL that starts with {schemes}://.")
    _broker_url(value)


def _broker_url(value: str) -> None:
    transport = value.partition("://")[0].partition("+")[0]  # kombu's: redis+socket:///path
    if value and transport not in {*broker_url.TRANSPORTS, "unix"}:
        raise ValidationError("Must be a URL of a broker, as redis://host or amqp://host.")
    _backend_url(value)


def _queue_name(value: str) -> None:
    if re.search(r"[\s,]", value) or len(value) > 255:
        raise ValidationError("Must be the name of one queue, without spaces and commas.")


def _backend_url(value: str) -> None:
    try:
        broker_url.check(value)
        tls = redis_url.read(value).tls if redis_url.is_redis(value) else None
    except ValueError as error:
        raise ValidationError(str(error)) from None
    for name in redis_url.TLS_FILES:
        if tls and name in tls and not os.access(tls[name], os.R_OK):
            raise ValidationError(f"{name} names a file that cannot be read here.")


def is_loopback(url: str) -> bool:
    """Say whether a URL names this very machine."""
    return is_this_machine(url)


def _base_url(value: str) -> None:
    try:
        redis_url.check_characters(value)
        parts = urlsplit(value)
        redis_url.read_host(parts.netloc.rpartition("@")[2])
    except ValueError as error:
        raise ValidationError(str(error)) from None
    plain = parts.scheme == "http" and is_this_machine(value)
    if value and not (parts.hostname and (parts.scheme == "https" or plain)):
        raise ValidationError("Must be an https:// URL (http:// only for this machine itself).")
    if parts.query or value.endswith("?"):
        raise ValidationError("Must end before the ?: a path is put after it.")
    if "@" in parts.netloc:
        raise ValidationError(
            "Must name no user: the API key and signed webhooks take their place."
        )
    if len(value) > _URL_LIMIT - _WEBHOOK_PATH_LENGTH:
        raise ValidationError("Too long: the provider takes webhook URLs of 1,024 characters.")


def _desk_url(value: str) -> None:
    try:
        redis_url.check_characters(value)
        parts = urlsplit(value)
        redis_url.read_host(parts.netloc.rpartition("@")[2])
    except ValueError as error:
        raise ValidationError(str(error)) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValidationError("Must be an http:// or https:// URL.")
    if parts.query or "@" in parts.netloc:
        raise ValidationError("Must name no user and no query.")


def _api_key(value: str) -> None:
    """Refuse a key that no HTTP header can hold, such as one pasted with invisible characters."""
    if found := re.search(r"[^!-~]", value):
        raise ValidationError(
            f"Character {found.start() + 1} is U+{ord(found[0]):04X}: a key is visible ASCII."
        )


def _strong_keys(keys: list[str]) -> None:
    for position, key in enumerate(keys, start=1):
        if len(key) < _KEY_LENGTH or len(set(key)) < _KEY_VARIETY:
            raise ValidationError(
                f"Key {position} is weak: use 32 random characters or more, as from "
                "`python3 -c 'import secrets; print(secrets.token_urlsafe(32))'`."
            )


def _known_risks(names: list[str]) -> None:
    if set(names) - set(Risk):
        raise ValidationError(f"Must be any of {', '.join(Risk)}, with commas between.")


def _require_one_broker(settings: Settings) -> None:
    # Celery lets these variables win over any configuration, and only Celery reads them: workers
    # would use another broker than the rest of Fermata.
    broker = ("FERMATA_BROKER_URL", settings.broker_url)
    backend = ("FERMATA_RESULT_BACKEND", settings.result_backend)
    wanted = {
        "CELERY_BROKER_URL": broker,
        "CELERY_BROKER_READ_URL": broker,
        "CELERY_BROKER_WRITE_URL": broker,
        "CELERY_RESULT_BACKEND": backend,
    }
    lines = [
        f"  {theirs}: Unset it; use {ours}."
        for theirs, (ours, value) in wanted.items()
        if theirs in os.environ and not broker_url.celery_takes(os.environ[theirs], value)
    ]
    if lines:
        raise ConfigError("wrong settings:\n" + "\n".join(lines))
