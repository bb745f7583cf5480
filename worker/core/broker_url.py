"""Checks the URL of a broker, which may be another server than Redis, before anything starts.

Only RabbitMQ's URL is read closely, because it is the other broker that Fermata is tested on. kombu
hands each parameter of a URL to its Connection: a parameter that Connection does not know, or that
should have been a number, is a TypeError at every connection.
"""

import re
from typing import Final
from urllib.parse import parse_qsl, unquote

from worker.core import redis_url

TRANSPORTS: Final = frozenset({
    "SLMQ", "SQS", "amqp", "amqps", "azureservicebus", "azurestoragequeues", "confluentkafka",
    "consul", "etcd", "filesystem", "gcpubsub", "kafka", "librabbitmq", "memory", "mongodb", "pgmq",
    "pyamqp", "pyro", "qpid", "redis", "rediss", "sentinel", "slmq", "sqla", "sqlalchemy", "sqs",
    "zookeeper",
})  # fmt: skip
"""The transports of kombu. They stand here because the receiver, which reads URLs, loads no kombu.
"""

_AMQP: Final = {"amqp": 5672, "pyamqp": 5672, "amqps": 5671}
_PASSWORD: Final = re.compile(r"(?<=//)([^:/?#;@]*):[^/?#;]*@")
_PARAMETERS: Final = ("heartbeat", "login_method")


def check(url: str) -> None:
    """Check a broker's URL. For RabbitMQ it may be several, with semicolons between.

    Raises ValueError that says what is wrong, and repeats no secret.
    """
    scheme = url.partition("://")[0]
    if redis_url.is_redis(url):
        redis_url.read(url)
    elif scheme == "sentinel" or scheme.partition("+")[0] in {"redis", "rediss"}:
        raise ValueError(f"Must begin with {'://, '.join(redis_url.SCHEMES)}:// for a Redis.")
    elif scheme == "memory":
        raise ValueError("Must be a server: the memory of one process is no other's.")
    elif scheme in _AMQP:
        for each in url.split(";"):
            _read(each)


def _read(url: str) -> tuple[object, ...]:
    """Read a URL of RabbitMQ as kombu does: server, virtual host, user and password."""
    redis_url.check_credentials(url)
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    place, _, vhost = rest.partition("/")
    userinfo, _, hosts = place.rpartition("@")
    username, _, password = map(unquote, userinfo.partition(":"))
    host, port = redis_url.read_host(hosts)
    _check_parameters(dict(parse_qsl(query, keep_blank_values=True)))
    server = (scheme == "amqps", host or "localhost", port or _AMQP.get(scheme))
    return *server, unquote(vhost) or "/", username or "guest", password or "guest"


def _check_parameters(given: dict[str, str]) -> None:
    for name, value in given.items():
        if name == "ssl" or name.startswith("ssl_"):
            raise ValueError(
                f"Leave out {name}: begin the URL with amqps://. The certificate is checked by the "
                "system's authorities, or by those in the file that SSL_CERT_FILE names."
            )
        if name not in _PARAMETERS:
            shown = name if name.isidentifier() and value else "a parameter"
            raise ValueError(
                f"Leave out {shown}: only {' and '.join(_PARAMETERS)} can be set here."
            )
    if not re.fullmatch(r"[0-9]{1,6}", given.get("heartbeat", "0")):
        raise ValueError("heartbeat must be a number of seconds.")


def celery_takes(theirs: str, ours: str) -> bool:
    """Say whether Celery, given their URL, connects to the same place as with ours."""
    wanted = redis_url.celery_url(ours)
    try:
        return theirs == wanted or _as_celery_reads(theirs) == _as_celery_reads(wanted)
    except ValueError:
        return False


def _as_celery_reads(url: str) -> object:
    scheme, query = url.partition("://")[0], url.partition("?")[2]
    if scheme in _AMQP and ";" not in url:
        return _read(url), query
    names = {name for name, _ in parse_qsl(query)}
    # For rediss, kombu checks no certificate without this parameter.
    told = "ssl_cert_reqs" in names if scheme == "rediss" else names <= {"virtual_host"}
    if scheme in {"redis", "rediss", "redis+socket"} and told:
        return redis_url.read(url)
    return url


def without_password(url: str) -> str:
    """Return a URL, or several with ``;`` between them, without the passwords."""
    return _PASSWORD.sub(r"\1:**@", url)
