"""One URL, and three libraries: whatever is not refused leads all of them to the same place."""

import ssl
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from kombu import Connection
from kombu.transport.redis import Channel, SentinelChannel
from redis.sentinel import SentinelConnectionPool

from fermata_client import Fermata
from fermata_client.connections import Records
from tests.unit.processes import python
from worker.core import broker_url, redis_url
from worker.core.health.checks import THREADS
from worker.store import connection

SENTINELS = "redis+sentinel://me:p%40ss%2F@one:26379,two,three:26380/music/2"
TIMEOUTS = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}


def at(host: str = "h", port: int = 6379, db: int = 0, **more: Any) -> dict[str, Any]:
    return {"host": host, "port": port, "db": db, "username": None, "password": None} | more


def tls(reqs: ssl.VerifyMode = ssl.CERT_REQUIRED, *, name: bool = True, **more: Any) -> Any:
    return at(cert_reqs=reqs, check_hostname=name, ca_certs=None, **more)


SAME: dict[str, dict[str, Any]] = {
    "redis://h": at(),
    "redis://h:6379/0": at(),
    "redis://h/": at(),
    "redis://h/0/": at(),
    "redis://H.Example:7000/12": at("h.example", 7000, 12),
    "redis://": at("localhost"),
    "redis://h?db=3": at(db=3),
    "redis://h/3?db=3": at(db=3),
    "redis://h?virtual_host=3": at(db=3),
    "redis://[::1]": at("::1"),
    "redis://[2001:db8::7]:7000/1": at("2001:db8::7", 7000, 1),
    "redis://[fe80::1%25eth0]/1": at("fe80::1%eth0", db=1),
    "redis://valkey_1.internal": at("valkey_1.internal"),
    "redis://me@h": at(username="me"),
    "redis://:@h": at(),
    "redis://:word@h": at(password="word"),
    "redis://me:@h": at(username="me"),
    "redis://m%40e:p%2F%3A%23%3F%25%20%2B+%5B@h/1": at(db=1, username="m@e", password="p/:#?% ++["),
    "redis://:[{w]|@h": at(password="[{w]|"),
    "redis://h?health_check_interval=7": at(),
    "rediss://h": tls(),
    "rediss://h?ssl_cert_reqs=required": tls(),
    "rediss://h?ssl_cert_reqs=CERT_REQUIRED": tls(),
    "rediss://h?ssl_cert_reqs=cert_optional": tls(ssl.CERT_OPTIONAL),
    "rediss://h?ssl_cert_reqs=CERT_NONE": tls(ssl.CERT_NONE, name=False),
    "rediss://h?ssl_check_hostname=0": tls(name=False),
    "rediss://h?ssl_check_hostname=False": tls(name=False),
    "rediss://h?ssl_check_hostname=yes": tls(),
    "rediss://me:w%40rd@[::1]:6380/2?ssl_ca_certs=%2Fetc%2Fa+b.pem&health_check_interval=7": tls()
    | at("::1", 6380, 2, username="me", password="w@rd", ca_certs="/etc/a b.pem"),
    "unix:///run/redis.sock": at(path="/run/redis.sock"),
    "unix://me:w%40rd@/run/a%20b.sock?db=2": at(
        path="/run/a b.sock", db=2, username="me", password="w@rd"
    ),
    "redis+socket:///run/redis.sock?virtual_host=2": at(path="/run/redis.sock", db=2),
    "redis+socket://:word@/run/redis.sock": at(path="/run/redis.sock", password="word"),
}


def facts(made: Any) -> dict[str, Any]:
    """What a connection of redis-py would do, whoever made it."""
    tls = ("cert_reqs", "check_hostname", "ca_certs") if hasattr(made, "cert_reqs") else ()
    where = ("path",) if hasattr(made, "path") else ("host", "port")
    said = {name: getattr(made, name) for name in (*where, "db", *tls)}
    # None and the empty string log in alike.
    return said | {name: getattr(made, name) or None for name in ("username", "password")}


def by_redis_py(url: str) -> Any:
    return connection.connect(url).connection_pool.make_connection()


def by_kombu(url: str) -> Any:
    channel: Any = Channel.__new__(Channel)  # not by its constructor, which connects
    channel.connection = Connection(redis_url.celery_url(url)).transport
    kwargs = channel._connparams()
    return kwargs.pop("connection_class")(
        **{k: v for k, v in kwargs.items() if k != "max_connections"}
    )


def by_celery(url: str) -> Any:
    app = Celery(backend=redis_url.celery_url(url), set_as_current=False)
    app.conf.redis_socket_connect_timeout = 2
    backend: Any = app.backend
    return backend.client.connection_pool.make_connection()


@pytest.mark.parametrize("url", SAME)
@pytest.mark.parametrize("connect", [by_redis_py, by_kombu, by_celery])
def test_everyone_is_led_to_the_same_place(url: str, connect: Any) -> None:
    wanted = SAME[url]
    if "path" in wanted:
        wanted = {name: value for name, value in wanted.items() if name not in {"host", "port"}}
    assert facts(connect(url)) == wanted
    # What is written is read again as it was.
    assert redis_url.read(redis_url.client_url(url)) == redis_url.read(url)


def test_a_health_check_reaches_everyone() -> None:
    url = "redis://h?health_check_interval=7"
    assert by_redis_py(url).health_check_interval == 7
    options = redis_url.celery_options(url, timeouts=TIMEOUTS)
    assert options == {"health_check_interval": 7}
    assert set(options) <= set(Channel.from_transport_options)
    assert redis_url.read(url).health_check_seconds == 7
    assert by_redis_py("redis://h").health_check_interval == 30


# -- refused ----------------------------------------------------------------------------------

WRONG = {
    "redis://h/abc": "must be a number",
    "redis://h/1/2": "must be a number",
    "redis://h/-1": "must be a number",
    "redis://h/٣": "must be a number",
    "redis://h?db=zebralion": "must be a number",
    "redis://h/2?db=3": "two databases",
    "redis://h?db=2&virtual_host=3": "two databases",
    "redis://h?db=2&db=2": "twice",
    "redis://h:0": "from 1 to 65535",
    "redis://h:99999": "port must be a number",
    "redis://h:port": "port must be a number",
    "redis://:6379": "name a host",
    "redis://::1": "IPv6 address stand in",
    "redis://[::1": "IPv6 address stand in",
    "redis://[zebralion]": "IPv6 address stand in",
    "redis://a..b": "percent-encoded",
    "redis://%2Frun%2Fredis.sock": "must be a name or an address",
    "redis://one,two/0": "one host",
    "redis://one:1/0;redis://two:2/0": "must be a number",
    # A password that was not encoded: none of these may reach another server, or show it.
    "redis://:123/zebralion@h": "percent-encoded",
    "redis://:123?zebralion@h": "percent-encoded",
    "redis://:123#zebralion@h": "%23",
    "redis://:zebra/lion@h/0": "percent-encoded",
    "redis://:zebra lion@h": "a space",
    "redis://h/0\n": "a space",
    "redis://h?zebralion": "Leave out a parameter",
    "redis://h?socket_timeout=1": "FERMATA_REDIS_TIMEOUT_SECONDS",
    "redis://h?max_connections=1": "Leave out max_connections",
    "redis://h?decode_responses=1": "Leave out decode_responses",
    "redis://h?protocol=3": "Leave out protocol",
    "redis://h?credential_provider=os.system": "Leave out credential_provider",
    "redis://h?health_check_interval=often": "number of seconds",
    "redis://h?ssl_cert_reqs=required": "rediss://",
    "redis://h?sentinel_password=zebralion": "goes with redis",
    "rediss://h?ssl_cert_reqs=zebralion": "required, optional or none",
    "rediss://h?ssl_check_hostname=maybe": "true or false",
    "rediss://h?ssl_ca_certs=": "must not be empty",
    "rediss://h?ssl_ca_certs=/a%2520b": "with a %",
    "rediss://h?ssl_min_version=771": "Leave out ssl_min_version",
    "unix://run/redis.sock": "Must look like unix:///",
    "unix://": "Must look like unix:///",
    "unix:///run/redis.sock?ssl_cert_reqs=none": "rediss://",
    "redis+sentinel://": "Must look like",
    "redis+sentinel://one:26379": "Must look like",
    "redis+sentinel:///music/0": "Must look like",
    "redis+sentinel://one,,two/music/0": "Must look like",
    "redis+sentinel://one/music/zero": "must be a number",
    "redis+sentinel://one:port/music/0": "port must be a number",
    "redis+sentinel://one:99999/music/0": "port must be a number",
    "redis+sentinel://:26379/music/0": "name a host",
    "redis+sentinel://::1/music/0": "IPv6 address stand in",
    "redis+sentinel://one/music/0?retries=3": "Leave out retries",
    "redis+sentinel://:zebra/lion@one:26379/music/0": "percent-encoded",
}


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_url_is_refused_without_repeating_its_secret(url: str) -> None:
    with pytest.raises(ValueError, match=WRONG[url]) as refused:
        redis_url.read(url)
    assert not any(part in str(refused.value) for part in ("zebra", "lion"))


def test_no_credential_is_in_the_repr() -> None:
    shown = repr(redis_url.read("redis+sentinel://me:zebra@one/music?sentinel_password=lion"))
    assert "zebra" not in shown
    assert "lion" not in shown


# -- with Sentinel ----------------------------------------------------------------------------


def test_the_parts_of_a_url_of_sentinels_are_read_and_decoded() -> None:
    read = redis_url.read(SENTINELS + "?sentinel_password=other%20one")

    assert read.hosts == (("one", 26379), ("two", 26379), ("three", 26380))
    assert (read.service, read.database) == ("music", 2)
    assert (read.username, read.password) == ("me", "p@ss/")
    assert read.sentinel_credentials == {"password": "other one"}


def test_credentials_and_database_may_be_left_out() -> None:
    read = redis_url.read("redis+sentinel://one/music")

    assert (read.database, read.username, read.password) == (0, "", "")
    assert read.sentinel_credentials == {}


def test_celery_gets_every_sentinel_as_a_url_and_the_rest_as_options() -> None:
    url = redis_url.celery_url(SENTINELS + "?sentinel_username=watch&sentinel_password=other")
    options = redis_url.celery_options(SENTINELS + "?sentinel_password=other", timeouts=TIMEOUTS)

    assert url.split(";") == [
        "sentinel://me:p%40ss%2F@one:26379/2",
        "sentinel://me:p%40ss%2F@two:26379/2",
        "sentinel://me:p%40ss%2F@three:26380/2",
    ]
    assert options == {
        "master_name": "music",
        "sentinel_kwargs": TIMEOUTS | {"password": "other"},
    }
    with Connection(url) as broker:
        assert (broker.password, broker.virtual_host) == ("p@ss/", "2")


def test_the_store_asks_the_sentinels_for_the_master() -> None:
    pool = connection.connect(SENTINELS, timeout_seconds=3).connection_pool

    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "music"
    kwargs = pool.connection_kwargs
    assert (kwargs["db"], kwargs["username"], kwargs["socket_timeout"]) == (2, "me", 3)
    [first, *_] = pool.sentinel_manager.sentinels
    assert first.connection_pool.connection_kwargs["socket_timeout"] == 3


def results_of_the_client() -> Any:
    backend: Any = Fermata("redis://h", result_backend="redis://h").app.backend
    return backend.client.connection_pool


POOLS: dict[str, Callable[[], Any]] = {
    "the store": lambda: connection.connect("redis://h").connection_pool,
    "the store, by sentinels": lambda: connection.connect(SENTINELS).connection_pool,
    "the client's records": lambda: Records("redis://h", 5)._redis.connection_pool,
    "the client's results": results_of_the_client,
}


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_has_a_connection_for_every_thread(pool: str) -> None:
    made = [POOLS[pool]().make_connection() for _ in range(2 * THREADS)]
    assert len(set(map(id, made))) == 2 * THREADS


def test_a_worker_has_a_connection_for_the_result_of_every_thread() -> None:
    said = "from worker.app import app; print(app.backend.client.connection_pool.max_connections)"
    assert python(said) == redis_url.UNLIMITED


def asked(manager: Any) -> list[tuple[str, int]]:
    kwargs = [each.connection_pool.connection_kwargs for each in manager.sentinels]
    return [(each["host"], each["port"]) for each in kwargs]


def test_everyone_asks_the_same_sentinels_at_addresses_of_ipv6() -> None:
    url = "redis+sentinel://[::1],[2001:db8::7]:26380,two/music/1"
    wanted = [("::1", 26379), ("2001:db8::7", 26380), ("two", 26379)]

    pool: Any = connection.connect(url).connection_pool
    assert asked(pool.sentinel_manager) == wanted
    options = redis_url.celery_options(url, timeouts=TIMEOUTS)
    channel: Any = SentinelChannel.__new__(SentinelChannel)
    channel.connection = Connection(redis_url.celery_url(url)).transport
    channel.master_name, channel.sentinel_kwargs = "music", options["sentinel_kwargs"]
    assert asked(channel._sentinel_managed_pool().sentinel_manager) == wanted
    app = Celery(backend=redis_url.celery_url(url), set_as_current=False)
    app.conf.result_backend_transport_options = options
    backend: Any = app.backend
    assert asked(backend.client.connection_pool.sentinel_manager) == wanted


# -- compared ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "other", "same"),
    [
        ("redis://H:6379/1", "redis://h", True),
        ("unix:///s?db=1", "redis+socket:///s", True),
        ("redis+sentinel://a,b/music", "redis+sentinel://b:26379,a/music/0", True),
        ("redis://h", "redis://other", False),
        ("redis://h", "redis://h:6380", False),
        ("unix:///s", "unix:///t", False),
        ("redis+sentinel://a/music", "redis+sentinel://a/other", False),
    ],
)
def test_the_same_server_may_be_written_in_two_ways(url: str, other: str, same: bool) -> None:
    assert (redis_url.read(url).server == redis_url.read(other).server) is same


# -- other brokers ----------------------------------------------------------------------------

GUEST = ("guest", "guest")
AMQP: dict[str, tuple[str, int, str, tuple[str, str]]] = {
    "amqp://h": ("h", 5672, "/", GUEST),
    "amqp://": ("127.0.0.1", 5672, "/", GUEST),
    "pyamqp://me:w%40rd@h:5673//music": ("h", 5673, "/music", ("me", "w@rd")),
    "amqp://me@h/%2Fmusic%20box": ("h", 5672, "/music box", ("me", "guest")),
    "amqp://[::1]": ("::1", 5672, "/", GUEST),
    "amqps://[2001:db8::7]:5674/music": ("2001:db8::7", 5674, "music", GUEST),
    "amqps://h": ("h", 5671, "/", GUEST),
    "amqp://h?heartbeat=10&login_method=EXTERNAL": ("h", 5672, "/", GUEST),
    "amqp://h/music;amqp://[::1]/music": ("h", 5672, "music", GUEST),
}


@pytest.mark.parametrize("url", AMQP)
def test_a_url_of_rabbitmq_is_taken_as_kombu_reads_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker_url.check(url)
    assert redis_url.celery_url(url) == url
    assert redis_url.celery_options(url, timeouts={"socket_timeout": 1}) == {}
    host, port, vhost, user = AMQP[url]
    opened: dict[str, Any] = {}
    with Connection(url) as broker:
        transport = broker.transport

        def open_it(**options: Any) -> Open:
            opened.update(options)
            return Open()

        monkeypatch.setattr(transport, "Connection", open_it)
        transport.establish_connection()
    assert opened["host"] == f"{host}:{port}"
    assert opened["virtual_host"] == vhost
    assert (opened["userid"], opened["password"]) == user
    assert bool(opened["ssl"]) is url.startswith("amqps")


class Open:
    client: Any = None

    def connect(self) -> None:
        pass


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://h?ssl=true", "amqps://"),
        ("amqps://h?ssl_cert_reqs=none", "SSL_CERT_FILE"),
        ("amqp://h?heartbeat=often", "number of seconds"),
        ("amqp://h?connection_attempts=3", "Leave out connection_attempts"),
        ("amqp://h?connect_timeout=3", "Leave out connect_timeout"),
        ("amqp://h?zebralion", "Leave out a parameter"),
        ("amqp://:zebra/lion@h", "percent-encoded"),
        ("amqp://:12#lion@h", "%23"),
        ("amqp://h:0", "from 1 to 65535"),
        ("amqp://h;amqp://two:port", "port must be a number"),
        ("sentinel://one:26379/0", "redis\\+sentinel://"),
        ("redis+rediss://h", "rediss://"),
        ("memory://", "Must be a server"),
        ("redis://h/abc", "must be a number"),
    ],
)
def test_a_broker_that_cannot_be_is_refused(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        broker_url.check(url)
    assert not any(part in str(refused.value) for part in ("zebra", "lion"))


@pytest.mark.parametrize(
    ("theirs", "ours", "takes"),
    [
        ("redis://h", "redis://h:6379/0", True),
        ("redis://h/0?db=0", "redis://h", False),  # a TypeError in kombu
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED", "rediss://h", True),
        ("rediss://h", "rediss://h", False),  # kombu would check no certificate
        ("rediss://h?ssl_cert_reqs=none", "rediss://h", False),
        ("redis://you@h", "redis://h", False),
        ("unix:///s", "unix:///s", False),  # which kombu does not know
        ("redis+socket:///s?virtual_host=1", "unix:///s?db=1", True),
        ("sentinel://a:26379/0", "redis+sentinel://a/music", True),
        ("amqp://h", "amqp://guest:guest@h:5672//", True),
        ("amqps://h", "amqp://h", False),
        ("amqp://h?heartbeat=1", "amqp://h", False),
        ("amqp://h:port", "amqp://h", False),
        ("sqs://", "sqs://", True),
    ],
)
def test_a_variable_of_celerys_own_must_lead_to_the_same_place(
    theirs: str, ours: str, takes: bool
) -> None:
    assert broker_url.celery_takes(theirs, ours) is takes


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://me:secret@host:5672/v?heartbeat=1", "amqp://me:**@host:5672/v?heartbeat=1"),
        ("redis://:s@cret:x@host/0", "redis://:**@host/0"),
        ("sentinel://:a@one;sentinel://:b@two/1", "sentinel://:**@one;sentinel://:**@two/1"),
        ("redis://me@host/0", "redis://me@host/0"),
        ("redis://host/0", "redis://host/0"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert broker_url.without_password(url) == shown
