"""A worker that loses its Redis with messages in its hands (worker/mends/redelivery.py)."""

from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue
from kombu.transport import redis

from tests.system import wait_until
from worker.mends import redelivery
from worker.mends.redelivery import PatientQoS
from worker.store.embedded import EmbeddedValkey

QUEUE = "queue"
LONG = 10


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedValkey]:
    monkeypatch.setattr(redis.Transport, "Channel", redis.Channel)
    monkeypatch.setattr(redis.SentinelTransport, "Channel", redis.SentinelChannel)
    redelivery.install()
    server = EmbeddedValkey(tmp_path, appendfsync="always")
    server.start()
    yield server
    server.stop()
    assert not PatientQoS._owed


@pytest.fixture
def broker(server: EmbeddedValkey) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        publish(connection, "held")
        yield connection


def channel_of(connection: Connection) -> Any:
    """The channel with all that Redis adds to it, which kombu's stubs leave out."""
    return connection.default_channel


def transport_of(connection: Connection) -> Any:
    return connection.transport


def publish(connection: Connection, body: str, **options: Any) -> None:
    connection.Producer(auto_declare=False).publish(body, routing_key=QUEUE, **options)


def kill(server: EmbeddedValkey) -> None:
    server.signal(SIGKILL)
    server.wait(lambda: None)


def left(server: EmbeddedValkey) -> tuple[list[Any], int]:
    """What a new worker finds in the queue, and how many messages it sees in others' hands."""
    with Connection(server.url) as connection:
        channel = channel_of(connection)
        channel.qos.restore_visible()
        in_hands = channel.client.hlen(channel.unacked_key)
        found = iter(lambda: channel.basic_get(QUEUE, no_ack=True), None)
        return [message.payload for message in found], in_hands


def test_a_message_that_a_closing_channel_could_not_give_back_comes_again(
    server: EmbeddedValkey, broker: Connection
) -> None:
    channel_of(broker).basic_get(QUEUE)
    kill(server)

    channel_of(broker).qos.restore_unacked_once()

    server.start()
    assert left(server) == (["held"], 0)


def test_an_acknowledgement_that_did_not_reach_redis_holds_no_slot_and_is_written_later(
    server: EmbeddedValkey, broker: Connection
) -> None:
    qos = channel_of(broker).qos
    qos.prefetch_count = 1
    message = channel_of(broker).basic_get(QUEUE)
    assert not qos.can_consume()
    kill(server)

    message.ack()

    assert qos.can_consume()
    qos.restore_unacked_once()
    server.start()
    assert left(server) == ([], 0)


@pytest.mark.parametrize(("requeue", "expected"), [(True, ["held"]), (False, [])])
def test_so_does_a_rejection(
    server: EmbeddedValkey, broker: Connection, requeue: bool, expected: list[str]
) -> None:
    qos = channel_of(broker).qos
    qos.prefetch_count = 1
    message = channel_of(broker).basic_get(QUEUE)
    kill(server)

    message.reject(requeue=requeue)

    assert qos.can_consume()
    server.start()
    assert left(server) == (expected, 0)


def test_a_message_that_was_popped_and_could_not_be_noted_comes_again(
    server: EmbeddedValkey, broker: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = channel_of(broker)
    popped = channel._get

    def popped_at_last(queue: str) -> Any:
        message = popped(queue)
        kill(server)
        return message

    monkeypatch.setattr(channel, "_get", popped_at_last)
    with pytest.raises(channel.connection_errors):
        channel.basic_get(QUEUE)

    server.start()
    assert left(server) == (["held"], 0)


def consume(connection: Connection, got: list[str]) -> Consumer:
    """Take messages as a worker does, and leave them unacknowledged."""
    return Consumer(
        connection.default_channel, [Queue(QUEUE)], callbacks=[lambda body, _: got.append(body)]
    )


def test_nor_is_a_message_given_to_a_third_worker_when_its_pop_had_noted_it(
    server: EmbeddedValkey, broker: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note brings it to a second worker, which may be at work on it by then."""
    monkeypatch.setattr(redelivery, "DELIVERY_SECONDS", -1)
    got: list[str] = []
    channel = channel_of(broker)
    deliver = transport_of(broker)._deliver

    def cut_off(message: Any, queue: str) -> None:
        kill(server)
        deliver(message, queue)

    with consume(broker, []):
        monkeypatch.setattr(broker.transport, "_deliver", cut_off)
        with pytest.raises(channel.connection_errors):
            broker.drain_events(timeout=LONG)
    server.start()
    with Connection(server.url) as second, consume(second, got):
        redis.QoS.restore_visible(channel_of(second).qos)  # another process owes nothing
        second.drain_events(timeout=LONG)

        channel.qos.restore_visible(interval=0)

        assert (got, channel._size(QUEUE)) == (["held"], 0)
        channel_of(second).qos._delivered.clear()


def test_a_note_whose_answer_was_lost_is_taken_back_at_once(
    server: EmbeddedValkey, broker: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = redis.QoS.append

    def cut_off(*args: Any) -> None:
        note(*args)
        raise ConnectionError

    with consume(broker, []), monkeypatch.context() as patched:
        patched.setattr(redis.QoS, "append", cut_off)
        with pytest.raises(ConnectionError):
            broker.drain_events(timeout=LONG)
        channel_of(broker).qos._delivered.clear()

    assert left(server) == (["held"], 0)


@pytest.mark.parametrize(("encoding", "body"), [("base64", "A"), ("none such", "eA==")])
def test_a_body_that_cannot_be_decoded_reaches_the_consumer_as_it_is(
    server: EmbeddedValkey, broker: Connection, encoding: str, body: str
) -> None:
    channel = channel_of(broker)
    channel.basic_get(QUEUE, no_ack=True)
    message = channel.prepare_message(body)
    channel._inplace_augment_message(message, "", QUEUE)
    message["properties"]["body_encoding"] = encoding
    channel._put(QUEUE, message | {"body": body})
    got: list[Any] = []

    with Consumer(channel, [Queue(QUEUE)], on_message=got.append):
        broker.drain_events(timeout=LONG)
        got[0].ack()

    assert (got[0].body, left(server)) == (body.encode(), ([], 0))


def test_a_prefix_of_all_keys_changes_nothing(server: EmbeddedValkey) -> None:
    got: list[str] = []
    options = {"global_keyprefix": "prefix."}
    with Connection(server.url, transport_options=options) as connection:
        channel = channel_of(connection)
        with consume(connection, got):
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=3 * redelivery.WAIT_SECONDS)
            publish(connection, "prefixed")
            transport_of(connection).cycle.on_poll_start()
            wait_until(lambda: not channel._size(QUEUE), what="the message is popped")
            with channel.conn_or_acquire() as client:
                assert client.hlen(channel.unacked_key) == 1
            connection.drain_events(timeout=LONG)

    assert got == ["prefixed"]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(30, ([], 1)), (-1, (["held"], 0))], ids=["early", "late"]
)
def test_a_message_popped_for_a_connection_that_is_gone_comes_again(
    server: EmbeddedValkey,
    broker: Connection,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    expected: tuple[list[str], int],
) -> None:
    monkeypatch.setattr(redelivery, "DELIVERY_SECONDS", seconds)
    channel = channel_of(broker)
    with Consumer(channel, [Queue(QUEUE)]):
        transport_of(broker).cycle.on_poll_start()
        wait_until(lambda: not channel._size(QUEUE), what="the message is popped")
        channel.client.connection.disconnect()

    assert left(server) == expected


def test_a_consumer_that_waits_gets_messages_of_every_priority(broker: Connection) -> None:
    got: list[str] = []
    with Consumer(broker.default_channel, [Queue(QUEUE)], callbacks=[lambda b, m: got.append(b)]):
        broker.drain_events(timeout=LONG)
        for priority in (None, 5):
            with pytest.raises(TimeoutError):
                broker.drain_events(timeout=3 * redelivery.WAIT_SECONDS)
            publish(broker, f"priority {priority}", priority=priority)
            broker.drain_events(timeout=LONG)

    assert got == ["held", "priority None", "priority 5"]


@pytest.mark.parametrize(
    ("lives", "expected"), [(True, ([], 1)), (False, (["held"], 0))], ids=["lives", "is dead"]
)
def test_a_message_stays_in_hand_past_the_visibility_timeout_while_its_worker_lives(
    server: EmbeddedValkey, broker: Connection, lives: bool, expected: tuple[list[str], int]
) -> None:
    channel: Any = broker.default_channel
    channel.basic_get(QUEUE)
    channel.client.zadd(channel.unacked_index_key, dict.fromkeys(channel.qos._delivered, 1))

    if lives:
        channel.qos.restore_visible()

    assert left(server) == expected
    channel.qos._delivered.clear()


def test_what_nobody_will_acknowledge_is_not_noted(
    server: EmbeddedValkey, broker: Connection
) -> None:
    got: list[str] = []
    consumer = Consumer(
        broker.default_channel, [Queue(QUEUE)], callbacks=[lambda b, m: got.append(b)], no_ack=True
    )
    with consumer:
        broker.drain_events(timeout=LONG)

    assert (got, left(server)) == (["held"], ([], 0))


def test_a_server_that_is_full_neither_stops_a_consumer_nor_takes_its_messages(
    server: EmbeddedValkey, broker: Connection
) -> None:
    got: list[str] = []
    channel = channel_of(broker)
    with Consumer(channel, [Queue(QUEUE)], callbacks=[lambda b, m: got.append(b)]):
        broker.drain_events(timeout=LONG)
        channel.client.config_set("maxmemory", 1)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                broker.drain_events(timeout=2 * redelivery.WAIT_SECONDS)
        channel.qos.restore_visible()
        assert len(channel.qos._delivered) == 1
        channel.client.config_set("maxmemory", 0)
        publish(broker, "afterwards")
        broker.drain_events(timeout=LONG)

    assert got == ["held", "afterwards"]
