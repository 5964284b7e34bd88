"""Connections to the broker and the declaration of what is used there (kombu)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import kombu
from amqp.exceptions import AMQPError, NotFound

from bus.errors import BrokerUnavailable
from bus.topology import DEAD, EXCHANGES, Exchange, Queue, exchanges_of

CONNECT_TIMEOUT = 2.0
IO_TIMEOUT = 5.0


def is_amqp(url: str) -> bool:
    return url.startswith(("amqp://", "amqps://"))


class Link:
    """One connection to the broker with one channel. Use it from one thread; never reuse it
    after an error: close it and open another.

    Raises BrokerUnavailable when no host of ``url`` (several are separated by ``;``) answers.
    """

    def __init__(self, url: str) -> None:
        self.is_amqp = is_amqp(url)
        self.connection: Any = kombu.Connection(url, heartbeat=0, **_options(self.is_amqp))
        self.errors: tuple[type[Exception], ...] = (
            *self.connection.connection_errors,
            *self.connection.channel_errors,
            OSError,
        )
        try:
            self.connection.ensure_connection(
                max_retries=url.count(";") + 1, interval_start=0, interval_step=0, interval_max=0
            )
            self.channel: Any = self.connection.channel()
        except (*self.errors, kombu.exceptions.OperationalError) as error:
            self.close()
            raise BrokerUnavailable(f"cannot reach the broker: {error}") from error

    def close(self) -> None:
        # Nothing is left to save on a connection that is given up; a polite close could block.
        with suppress(*self.errors, AMQPError, AttributeError):
            self.connection.collect(socket_timeout=0.1)

    def declare(self, queues: Iterable[Queue]) -> None:
        """Makes the exchanges, queues and bindings of ``queues`` exist, dead letters first.

        A queue that exists is left as it is, whatever its arguments: another release may own
        it. Raises BrokerUnavailable.
        """
        try:
            self._declare_all(tuple(queues))
        except self.errors as error:
            raise BrokerUnavailable(f"cannot declare the queues: {error}") from error

    def _declare_all(self, queues: tuple[Queue, ...]) -> None:
        if not self.is_amqp:
            # kombu remembers bindings for the life of the process, even when Redis lost them.
            self.channel.state.clear()
        for exchange in _with_dead_letters(queues):
            _exchange(exchange)(self.channel).declare()
        for queue in queues:
            if queue.dead_letters:
                self._declare(queue.dead_letters)
            self._declare(queue)

    def _declare(self, queue: Queue) -> None:
        bound = kombu.Queue(queue.name, durable=True, queue_arguments=dict(queue.arguments))
        bound = bound(self.channel)
        if not (self.is_amqp and self._exists(queue.name)):
            bound.queue_declare()
        for binding in queue.bindings:
            bound.bind_to(binding.exchange.name, routing_key=binding.routing_key)

    def _exists(self, queue: str) -> bool:
        """Asks on a channel of its own: a passive declaration that fails closes its channel."""
        probe = self.connection.channel()
        try:
            probe.queue_declare(queue, passive=True)
        except NotFound:
            return False
        probe.close()
        return True


def declare(url: str, queues: Iterable[Queue]) -> None:
    """Declares ``queues`` on a connection made for it. Raises BrokerUnavailable."""
    link = Link(url)
    try:
        link.declare(queues)
    finally:
        link.close()


def _options(amqp: bool) -> dict[str, Any]:
    if amqp:
        timeouts = {"read_timeout": IO_TIMEOUT, "write_timeout": IO_TIMEOUT}
    else:
        timeouts = {"socket_timeout": IO_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
    return {"connect_timeout": CONNECT_TIMEOUT, "transport_options": timeouts}


def _with_dead_letters(queues: tuple[Queue, ...]) -> list[Exchange]:
    used = exchanges_of(queues)
    dead = any(queue.dead_letters for queue in queues)
    return [exchange for exchange in EXCHANGES if exchange in used or (dead and exchange == DEAD)]


def _exchange(exchange: Exchange) -> Any:
    return kombu.Exchange(exchange.name, exchange.type, durable=True, arguments=exchange.arguments)
