"""A channel to RabbitMQ whose owner runs the event loop, for as long as it likes (pika).

It uses SelectConnection rather than BlockingConnection: its sockets never block, and it publishes
and consumes at a third of the cost.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorPhaseErrorBase,
)
from pika.exceptions import AMQPError, ConnectionClosedByClient

from bus.errors import BrokerUnavailable, reason
from bus.message import Delivery
from bus.runtime.settings.urls import authorities_of
from bus.transport.rabbitmq.frames import read_frames
from bus.transport.urls import CONNECT_SECONDS, connect_timeout

CLOSE_SECONDS = 0.5


@contextmanager
def broker_errors() -> Iterator[None]:
    """Turns pika's errors into ours."""
    try:
        yield
    except (AMQPError, OSError) as error:
        raise BrokerUnavailable(f"RabbitMQ: {_why(error)}") from error


class _Connection(pika.SelectConnection):  # type: ignore[misc]
    """pika's connection, with shorter ways for the work done for every message, and for closing,
    which pika knows only as an exchange of frames."""

    _take: Callable[[Delivery], object] | None = None
    _frame_buffer: bytes

    def drop(self) -> None:
        """Ends the TCP connection; complete once the loop has run and ``is_closed``."""
        self._terminate_stream(ConnectionClosedByClient(0, "dropped"))

    def send(self, frames: bytes) -> None:
        """Sends many frames at once: pika makes a system call for each."""
        self._output_marshaled_frames([frames])

    def take_deliveries(self, take: Callable[[Delivery], object]) -> None:
        """Passes deliveries to ``take`` from now on; pika sees only those that other frames
        interrupt."""
        self._take = take
        self._received = bytearray()

    def _on_data_available(self, data_in: bytes) -> None:
        if not self._take:
            super()._on_data_available(data_in)
            return
        # pika takes growth of this number as a sign that the broker lives, and adds frames itself.
        self.bytes_received += len(data_in)
        received, start = self._received, 0
        received += self._frame_buffer + data_in
        self._frame_buffer = b""
        while (found := read_frames(received, start))[1]:
            delivery, end = found
            if delivery:
                self._take(delivery)
            else:
                super()._on_data_available(bytes(received[start:end]))
            start = end
        del received[:start]

    @property
    def body_limit(self) -> int:
        """The most bytes of a message that one frame may hold, as agreed with the broker."""
        return int(self._body_max_length)


class RabbitChannel:
    """A connection with one channel. Use it from one thread; after an error, close it.

    ``url`` may name several hosts, separated by ``;``; they are tried in random order.
    ``heartbeat`` is in seconds; give 0 where the loop does not run while there is nothing to do.
    Raises BrokerUnavailable.
    """

    def __init__(self, url: str, *, heartbeat: int) -> None:
        self._loop = IOLoop()
        self._loop.activate_poller()
        self._woken = False
        self._connection: _Connection | None = None
        self._lost: object = None
        self.channel: Any = None
        with broker_errors():
            hosts = _parameters(url, heartbeat)
            _Connection.create_connection(hosts, on_done=self._on_done, custom_ioloop=self._loop)
            # Longer than pika's own timeouts, so that pika closes the attempts it gives up.
            self._run(CONNECT_SECONDS + CLOSE_SECONDS)
        if self.channel is None:
            self.close()
            raise BrokerUnavailable(f"cannot reach the broker: {_why(self._lost)}")

    def close(self) -> None:
        """Closes politely if the broker answers soon, else without its answer."""
        if self._connection and self._connection.is_open:
            with suppress(AMQPError, OSError):
                self._connection.close()
                self._run_until(lambda: self._is_closed, CLOSE_SECONDS)
        self._drop()

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Surrounds the rest of a subclass's start: a failure there closes the connection."""
        try:
            with broker_errors():
                yield
        except BrokerUnavailable:
            self.close()
            raise

    @property
    def _is_closed(self) -> bool:
        return self._connection is None or self._connection.is_closed

    def _drop(self) -> None:
        """Ends the connection without telling the broker."""
        if self._connection and not self._is_closed:
            self._connection.drop()
            self._run_until(lambda: self._is_closed, CLOSE_SECONDS)
        self._loop.deactivate_poller()
        self._loop.close()

    def _run(self, seconds: float) -> None:
        """Lets pika read and write until a callback calls ``_wake``, at most ``seconds``.

        Turn by turn: the loop's own ``start`` would make and drop a poller every time.
        """
        self._woken = False
        timer = self._loop.call_later(seconds, self._wake)
        while not self._woken:
            self._loop.poll()
            self._loop.process_timeouts()
        self._loop.remove_timeout(timer)

    def _wake(self) -> None:
        self._woken = True

    def _run_until(self, done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done() and (remaining := deadline - time.monotonic()) > 0:
            self._run(remaining)

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise BrokerUnavailable(f"RabbitMQ closed the connection: {_why(self._lost)}")

    def _on_done(self, result: Any) -> None:
        if isinstance(result, BaseException):
            self._on_lost(None, result)
            return
        self._connection = result
        result.add_on_close_callback(self._on_lost)
        result.channel(on_open_callback=self._on_open)

    def _on_open(self, channel: Any) -> None:
        self.channel = channel
        channel.add_on_close_callback(self._on_lost)
        self._wake()

    def _on_lost(self, source: object, lost: object) -> None:
        self._lost = self._lost or lost
        self._wake()


def _why(lost: object) -> str:
    """The reason in ``lost``; pika nests errors of the socket in errors without a text."""
    if isinstance(lost, AMQPConnectionWorkflowFailed):
        return _why(lost.exceptions[-1])
    if isinstance(lost, AMQPConnectorPhaseErrorBase):
        return _why(lost.exception)
    return reason(lost) if isinstance(lost, BaseException) else str(lost or "no answer")


def _parameters(url: str, heartbeat: int) -> list[pika.URLParameters]:
    hosts = url.split(";")
    random.shuffle(hosts)
    return [_parameters_of(host, heartbeat, connect_timeout(url)) for host in hosts]


def _parameters_of(url: str, heartbeat: int, seconds: float) -> pika.URLParameters:
    parameters = pika.URLParameters(url.partition("?")[0])
    if parameters.ssl_options:
        context = ssl.create_default_context(cafile=authorities_of(url))
        parameters.ssl_options = pika.SSLOptions(context, parameters.host)
    # Like kombu, read "amqp://host//" for the virtual host "/".
    parameters.virtual_host = parameters.virtual_host or "/"
    parameters.heartbeat = heartbeat
    parameters.socket_timeout = parameters.stack_timeout = seconds
    return parameters
