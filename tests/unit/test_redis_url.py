"""The URL of Redis with Sentinel, in our words, redis-py's and Celery's."""

import pytest
from kombu import Connection
from redis.sentinel import SentinelConnectionPool

from worker import connection, redis_url

URL = "redis+sentinel://me:p%40ss%2F@one:26379,two,three:26380/music/2"
PLAIN = ["redis://:secret@localhost:6379/0", "rediss://x/0?ssl_cert_reqs=required", "amqp://rabbit"]


def test_the_parts_of_a_url_are_read_and_decoded() -> None:
    parts = redis_url.parse_sentinel(URL + "?sentinel_password=other%20one")

    assert parts.sentinels == (("one", 26379), ("two", 26379), ("three", 26380))
    assert (parts.service, parts.database) == ("music", 2)
    assert parts.credentials == {"username": "me", "password": "p@ss/"}
    assert parts.sentinel_credentials == {"password": "other one"}


def test_credentials_and_database_may_be_left_out() -> None:
    parts = redis_url.parse_sentinel("redis+sentinel://one/music")

    assert (parts.database, parts.credentials, parts.sentinel_credentials) == (0, {}, {})


def test_celery_gets_every_sentinel_as_a_url_and_the_rest_as_options() -> None:
    timeouts = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}

    url = redis_url.celery_url(URL + "?sentinel_username=watch&sentinel_password=other")
    options = redis_url.celery_options(URL + "?sentinel_password=other", timeouts=timeouts)

    assert url.split(";") == [
        "sentinel://me:p%40ss%2F@one:26379/2",
        "sentinel://me:p%40ss%2F@two:26379/2",
        "sentinel://me:p%40ss%2F@three:26380/2",
    ]
    assert options == {
        "master_name": "music",
        "sentinel_kwargs": timeouts | {"password": "other"},
    }
    with Connection(url) as connection:
        assert (connection.password, connection.virtual_host) == ("p@ss/", "2")


@pytest.mark.parametrize("url", PLAIN)
def test_other_urls_are_left_as_they_are(url: str) -> None:
    assert redis_url.celery_url(url) == url
    assert redis_url.celery_options(url, timeouts={"socket_timeout": 1}) == {}


@pytest.mark.parametrize(
    "wrong",
    [
        "redis+sentinel://",
        "redis+sentinel://one:26379",
        "redis+sentinel:///music/0",
        "redis+sentinel://one,,two/music/0",
        "redis+sentinel://one/music/zero",
        "redis+sentinel://one:port/music/0",
        "redis+sentinel://one:99999/music/0",
        "redis+sentinel://:26379/music/0",
        "redis+sentinel://one/music/0?retries=3",
        "redis+sentinel://:pass/word@one:26379/music/0",
    ],
)
def test_a_wrong_url_is_refused_without_repeating_its_secret(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"Must look like|must be a number") as refused:
        redis_url.parse_sentinel(wrong)

    assert "word" not in str(refused.value).replace("a password percent-encoded", "")


def test_the_store_asks_the_sentinels_for_the_master() -> None:
    pool = connection.connect(URL, timeout_seconds=3).connection_pool

    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "music"
    kwargs = pool.connection_kwargs
    assert (kwargs["db"], kwargs["username"], kwargs["socket_timeout"]) == (2, "me", 3)
    [first, *_] = pool.sentinel_manager.sentinels
    assert first.connection_pool.connection_kwargs["socket_timeout"] == 3
