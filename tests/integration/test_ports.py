"""A port that was chosen stays with whoever chose it, from the choice on."""

import contextlib
import signal
import socket
import sys
from pathlib import Path

import pytest
from redis import Redis

from worker.core.errors import ConfigError
from worker.store import embedded
from worker.store.embedded import EmbeddedValkey, hold_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets two sockets bind")


def test_a_port_that_is_held_cannot_be_chosen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    port, held = hold_port()
    monkeypatch.setattr(embedded, "_PORTS", range(port, port + 1))
    with contextlib.closing(held), pytest.raises(ConfigError, match="no port"):
        hold_port()


def test_nobody_is_met_at_a_port_that_is_held_until_its_server_listens() -> None:
    port, held = hold_port()
    with contextlib.closing(held), socket.socket() as server:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        socket.create_connection(("127.0.0.1", port)).close()


def test_a_valkey_keeps_its_port_while_it_is_down(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    url = valkey.start()
    port = int(url.rpartition(":")[2].removesuffix("/0"))
    valkey.signal(signal.SIGKILL)
    valkey.wait(lambda: None)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    assert valkey.start() == url
    with Redis.from_url(url) as redis:
        assert redis.ping()
    valkey.stop()
