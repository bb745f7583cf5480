"""A worker that loses its Redis with messages in its hands (worker/redelivery.py)."""

from pathlib import Path
from signal import SIGKILL

import pytest
from kombu import Connection
from kombu.transport import redis

from worker import redelivery
from worker.embedded import EmbeddedValkey
from worker.redelivery import PatientQoS


def test_messages_that_could_not_be_given_back_are_when_redis_is_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis.Channel, "QoS", redis.QoS)
    redelivery.install()
    server = EmbeddedValkey(tmp_path, appendfsync="always")
    url = server.start()
    try:
        connection = Connection(url)
        connection.Producer(auto_declare=False).publish("held", routing_key="queue")
        message = connection.default_channel.basic_get("queue")
        server.signal(SIGKILL)
        server.wait(lambda: None)

        connection.default_channel.qos.restore_unacked_once()

        assert message.delivery_tag in PatientQoS._held
        server.start()
        with Connection(url) as again:
            again.default_channel.qos.restore_visible()
            assert again.default_channel.basic_get("queue").payload == "held"
        assert not PatientQoS._held
    finally:
        server.stop()
