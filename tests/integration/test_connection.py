"""The pool of our client: what it takes a shorter way for, and what it leaves to redis-py."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.connection import ConnectionPool

from worker.store import connection
from worker.store.connection import StoreUnavailable


@pytest.fixture
def client(valkey: Any) -> Iterator[Any]:
    """A client that tries once, as the receiver's does."""
    client = connection.connect(valkey.url, retries=0)
    client.ping()
    yield client
    client.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that redis-py itself hands out."""
    theirs, found = ConnectionPool.get_connection, []

    def get(self: Any, *args: Any, **options: Any) -> Any:
        found.append(theirs(self, *args, **options))
        return found[-1]

    monkeypatch.setattr(ConnectionPool, "get_connection", get)
    return found


@pytest.fixture(autouse=True)
def rest(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a call after which no connection is fresh; until then, each is, however old."""
    monkeypatch.setattr(connection, "_MOMENT_SECONDS", 3600)
    return lambda: monkeypatch.setattr(connection, "_MOMENT_SECONDS", 0)


def hang_up(redis: Any) -> None:
    """Close all other connections on the server's side."""
    redis.client_kill_filter(_type="normal", skipme=True)


def test_a_connection_in_use_a_moment_ago_is_handed_out_without_a_question(
    client: Any, asked: list[Any], rest: Callable[[], None]
) -> None:
    pool = client.connection_pool
    client.ping()
    first, second = pool.get_connection(), pool.get_connection()
    assert first is not second
    assert asked == [second]  # which is new
    pool.release(first)
    assert pool.get_connection() is first
    pool.release(first)
    rest()
    assert pool.get_connection() is first
    assert asked == [second, first]


def test_a_connection_that_has_rested_is_made_anew_if_the_server_hung_up(
    client: Any, redis: Any, rest: Callable[[], None]
) -> None:
    hang_up(redis)
    rest()
    assert client.ping()


def test_a_server_that_hung_up_a_moment_ago_is_one_error_or_one_retry(
    client: Any, valkey: Any, redis: Any
) -> None:
    patient = connection.connect(valkey.url, retries=2)
    patient.ping()
    client.ping()
    hang_up(redis)
    assert patient.ping()
    with pytest.raises(StoreUnavailable):
        client.ping()
    assert client.ping()


def test_a_forked_process_uses_no_connection_of_its_parent(client: Any) -> None:
    pool = client.connection_pool
    ours = pool.get_connection()
    pool.release(ours)
    pool.pid = ours.pid = -1  # as a child sees it
    assert pool.get_connection() is not ours
    pool.release(ours)
    assert pool.get_connection() is not ours


def test_a_connection_is_taken_back_once(client: Any) -> None:
    pool = client.connection_pool
    taken = pool.get_connection()
    pool.release(taken)
    pool.release(taken)
    assert pool.get_connection() is taken
    assert pool.get_connection() is not taken


def test_a_connection_that_is_to_be_made_anew_is_closed_when_it_comes_back(client: Any) -> None:
    pool = client.connection_pool
    taken = pool.get_connection()
    taken.mark_for_reconnect()
    pool.release(taken)
    assert not taken.is_connected
    assert client.ping()


class Interrupted(BaseException):
    """What a time limit raises, wherever a pool's process is."""


@pytest.mark.parametrize(
    "ask",
    [
        lambda redis: redis.echo("a"),
        lambda redis: redis.pipeline(transaction=False).echo("a").echo("b").execute(),
    ],
    ids=["command", "pipeline"],
)
def test_an_answer_that_an_interrupted_command_left_is_nobody_elses(
    client: Any, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Any], Any]
) -> None:
    taken = client.connection_pool.get_connection()
    client.connection_pool.release(taken)
    read = taken.read_response

    def interrupted(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(taken, "read_response", read)
        raise Interrupted

    monkeypatch.setattr(taken, "read_response", interrupted)
    with pytest.raises(Interrupted):
        ask(client)
    assert [client.echo("c"), client.echo("d")] == ["c", "d"]
