"""What the admin connections to both brokers share: kombu connects and declares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import kombu

from bus.errors import BrokerUnavailable, reason
from bus.runtime.settings.urls import authorities_of
from bus.topology import DEAD, EXCHANGES, Exchange, Queue, exchanges_of
from bus.transport.urls import connect_timeout


class KombuAdmin(ABC):
    """One connection to a broker with one channel. Use it from one thread; never reuse it after
    an error: close it and open another.

    ``timeouts`` are options of kombu's transport. Raises BrokerUnavailable when no host of
    ``url`` answers; ``;`` separates several.
    """

    def __init__(self, url: str, timeouts: dict[str, float]) -> None:
        failure = None
        for host in url.split(";"):
            self._prepare(host, timeouts, connect_timeout(url))
            try:
                self.connection.ensure_connection(max_retries=0)
                self.channel: Any = self.connection.channel()
                return
            except (*self.errors, kombu.exceptions.OperationalError) as error:
                self.close()
                failure = error
        assert failure
        raise BrokerUnavailable(f"cannot reach the broker: {reason(failure)}") from failure

    def _prepare(self, url: str, timeouts: dict[str, float], seconds: float) -> None:
        # A connection for each host: kombu's own turning from one host to the next would verify
        # the second one's certificate by the name of the first.
        uses_tls = url.startswith(("amqps://", "rediss://"))
        self.connection: Any = kombu.Connection(
            url.partition("?")[0],
            heartbeat=0,
            connect_timeout=seconds,
            transport_options=timeouts,
            ssl=self._tls_options(authorities_of(url)) if uses_tls else False,
        )
        self.errors: tuple[type[Exception], ...] = (
            *self.connection.connection_errors,
            *self.connection.channel_errors,
            OSError,
        )

    @abstractmethod
    def _tls_options(self, authorities: str | None) -> dict[str, Any]:
        """kombu's ``ssl`` options, so that chain and host name are verified, by ``authorities``
        (a file of certificates) or else by those of the system."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _has_queue(self, queue: Queue) -> bool:
        """Whether ``queue`` exists and must be left as it is."""

    @contextmanager
    def broker_errors(self, doing: str) -> Iterator[None]:
        """Turns the library's errors into BrokerUnavailable; ``doing`` is what failed."""
        try:
            yield
        except self.errors as error:
            raise BrokerUnavailable(f"cannot {doing}: {reason(error)}") from error

    def declare(self, queues: Iterable[Queue]) -> None:
        queues = tuple(queues)
        with self.broker_errors("declare the queues"):
            for exchange in _with_dead_letters(queues):
                _exchange(exchange)(self.channel).declare()
            for queue in queues:
                if queue.dead_letters:
                    self._declare(queue.dead_letters)
                self._declare(queue)

    def _declare(self, queue: Queue) -> None:
        bound = kombu.Queue(queue.name, durable=True, queue_arguments=dict(queue.arguments))
        bound = bound(self.channel)
        if not self._has_queue(queue):
            bound.queue_declare()
        for binding in queue.bindings:
            bound.bind_to(binding.exchange.name, routing_key=binding.routing_key)


def _with_dead_letters(queues: tuple[Queue, ...]) -> list[Exchange]:
    used = exchanges_of(queues)
    dead = any(queue.dead_letters for queue in queues)
    return [exchange for exchange in EXCHANGES if exchange in used or (dead and exchange == DEAD)]


def _exchange(exchange: Exchange) -> Any:
    return kombu.Exchange(exchange.name, exchange.type, durable=True, arguments=exchange.arguments)
