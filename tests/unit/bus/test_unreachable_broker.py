"""An error of the broker always gives its reason, also where the library's own text is empty."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from bus.errors import BrokerUnavailable, reason
from bus.topology import MONGO_WRITER
from bus.transport import connect_admin
from bus.transport.rabbitmq.publish_channel import ConfirmChannel
from bus.transport.rabbitmq.subscription import RabbitSubscription
from tests.support.ports import HOST, free_port


@pytest.fixture
def hanging_up() -> Iterator[int]:
    """The port of a server that closes every connection at once."""
    with socket.create_server((HOST, 0)) as server:

        def accept() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize(
    ("scheme", "connect"),
    [
        ("amqp", connect_admin),
        ("redis", connect_admin),
        ("amqp", lambda url: ConfirmChannel(url, ())),
        ("amqp", lambda url: RabbitSubscription(url, MONGO_WRITER, 1)),
    ],
)
def test_the_reason_is_given(
    hanging_up: int, scheme: str, connect: Callable[[str], object], is_there: bool
) -> None:
    port = hanging_up if is_there else free_port()
    with pytest.raises(BrokerUnavailable, match=r"cannot reach the broker: \S") as raised:
        connect(f"{scheme}://{HOST}:{port}/")
    assert is_there or "refused" in str(raised.value)


def test_an_error_without_a_text_gives_its_causes_or_its_own_name() -> None:
    assert reason(OSError("gone")) == "gone"
    assert reason(TimeoutError()) == "timed out"
    assert reason(ConnectionResetError()) == "ConnectionResetError"
    with pytest.raises(ValueError, match=r"^$") as raised:
        raise ValueError from OSError("gone")
    assert reason(raised.value) == "gone"
