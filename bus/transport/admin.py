"""Connections to the broker and the declaration of what is used there (kombu)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import kombu
from amqp.exceptions import AMQPError, ChannelError, NotFound

from bus.errors import BrokerUnavailable
from bus.topology import DEAD, EXCHANGES, Exchange, Queue, exchanges_of

# For all hosts of a URL together: when the first ones are silent, the last one's turn comes
# within the deadline of whoever publishes.
CONNECT_SECONDS = 4.0
IO_TIMEOUT = 5.0
# ``holds_message`` has a message in hand for less than this.
HAND_SECONDS = 0.1


def is_amqp(url: str) -> bool:
    return url.startswith(("amqp://", "amqps://"))


def connect_timeout(url: str) -> float:
    """Seconds for an attempt at one of the hosts of ``url``, which ``;`` separates."""
    return CONNECT_SECONDS / (url.count(";") + 1)


class Link:
    """One connection to the broker with one channel. Use it from one thread; never reuse it
    after an error: close it and open another.

    Raises BrokerUnavailable when no host of ``url`` (several are separated by ``;``) answers.
    """

    def __init__(self, url: str) -> None:
        self.is_amqp = is_amqp(url)
        self.connection: Any = kombu.Connection(url, heartbeat=0, **_options(url))
        self.errors: tuple[type[Exception], ...] = (
            *self.connection.connection_errors,
            *self.connection.channel_errors,
            OSError,
        )
        try:
            self.connection.ensure_connection(
                max_retries=url.count(";"), interval_start=0, interval_step=0, interval_max=0
            )
            self.channel: Any = self.connection.channel()
        except (*self.errors, kombu.exceptions.OperationalError) as error:
            self.close()
            raise BrokerUnavailable(f"cannot reach the broker: {error}") from error

    def close(self) -> None:
        # Nothing is left to save on a connection that is given up; to RabbitMQ a polite close could
        # block. To Redis there is no other, and kombu's ``collect`` would for that moment, and of
        # two at once for ever, change the timeout of every socket that other threads make.
        with suppress(*self.errors, AMQPError, AttributeError):
            if self.is_amqp:
                self.connection.collect()
            else:
                self.connection.release()

    def ping(self) -> None:
        """Returns when the broker has answered. Raises BrokerUnavailable."""
        try:
            if self.is_amqp:
                self.connection.channel().close()
            else:
                self.channel.client.ping()
        except self.errors as error:
            self.close()
            raise BrokerUnavailable(f"the broker does not answer: {error}") from error

    def run_id(self) -> str:
        """What is another after each start of the server. For Redis. Raises BrokerUnavailable."""
        try:
            return str(self.channel.client.info("server")["run_id"])
        except self.errors as error:
            raise BrokerUnavailable(f"cannot ask Redis for its run: {error!r}") from error

    def depth(self, queue: Queue) -> int | None:
        """How many messages lie on ``queue`` that no consumer has taken; None without it.

        In Redis a queue without messages and no queue are the same: 0. Raises BrokerUnavailable.
        """
        if self.is_amqp:
            declared = self._ask(queue)
            return declared and int(declared.message_count)
        try:
            return int(self.channel._size(queue.name))
        except self.errors as error:
            raise BrokerUnavailable(f"cannot ask for {queue.name}: {error}") from error

    def consumers(self, queue: Queue) -> int | None:
        """How many consumers ``queue`` has, of a single active consumer and its standbys only the
        active one; None without such a queue, and on Redis, which does not know. Raises
        BrokerUnavailable."""
        declared = self._ask(queue) if self.is_amqp else None
        return declared and int(declared.consumer_count)

    def holds_message(self, queue: Queue) -> bool:
        """Whether a message can be taken from ``queue`` (RabbitMQ); it goes back at once.

        A count of 0 does not say so of a quorum queue whose leader is still starting; this waits
        for the leader. Raises BrokerUnavailable.
        """
        if self._holds_message(queue):
            return True
        # Another one who asks may have had it in hand.
        time.sleep(HAND_SECONDS)
        return self._holds_message(queue)

    def _holds_message(self, queue: Queue) -> bool:
        try:
            with self.probe() as probe:
                message = probe.basic_get(queue.name)
                if message is not None:
                    probe.basic_reject(message.delivery_tag, requeue=True)
                return message is not None
        except self.errors as error:
            raise BrokerUnavailable(f"cannot look into {queue.name}: {error}") from error

    def _ask(self, queue: Queue) -> Any:
        try:
            with self.probe() as probe:
                return probe.queue_declare(queue.name, passive=True)
        except NotFound:
            return None
        except self.errors as error:
            raise BrokerUnavailable(f"cannot ask for {queue.name}: {error}") from error

    def lacks(self, queue: Queue) -> bool:
        """Whether ``queue`` was deleted or never made. Raises BrokerUnavailable.

        In Redis a queue is its bindings; one without any always exists.
        """
        if self.is_amqp:
            return self.depth(queue) is None
        return any(
            (binding.routing_key, queue.name) not in self.bound(binding.exchange)
            for binding in queue.bindings
        )

    def declare(self, queues: Iterable[Queue]) -> None:
        """Makes the exchanges, queues and bindings of ``queues`` exist, dead letters first.

        A queue that exists is left as it is, whatever its arguments: another release may own
        it. Raises BrokerUnavailable.
        """
        try:
            self._declare_all(tuple(queues))
        except self.errors as error:
            raise BrokerUnavailable(f"cannot declare the queues: {error}") from error

    def bind(self, queue: Queue) -> bool:
        """Makes the bindings of ``queue`` exist; whether the exchanges did. For RabbitMQ.

        Raises BrokerUnavailable.
        """
        try:
            with self.probe() as probe:
                for binding in queue.bindings:
                    probe.queue_bind(queue.name, binding.exchange.name, binding.routing_key)
        except NotFound:
            return False
        except self.errors as error:
            raise BrokerUnavailable(f"cannot bind {queue.name}: {error}") from error
        return True

    def bound(self, exchange: Exchange) -> set[tuple[str, str]]:
        """Routing key and queue of each binding of ``exchange``. For Redis, where kombu keeps
        them in a table. Raises BrokerUnavailable.
        """
        try:
            table = self.channel.get_table(exchange.name)
        except self.errors as error:
            raise BrokerUnavailable(f"cannot read the bindings: {error}") from error
        return {(routing_key, queue) for routing_key, _, queue in table}

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
        if not (self.is_amqp and self._ask(queue)):
            bound.queue_declare()
        for binding in queue.bindings:
            bound.bind_to(binding.exchange.name, routing_key=binding.routing_key)

    @contextmanager
    def probe(self) -> Iterator[Any]:
        """A channel for what may be refused: the broker then closes the channel, and py-amqp
        opens it anew, which would use up the connection's channels."""
        channel = self.connection.channel()
        try:
            yield channel
        except ChannelError:
            channel.close()
            raise
        channel.close()


def declare(url: str, queues: Iterable[Queue]) -> None:
    """Declares ``queues`` on a connection made for it. Raises BrokerUnavailable."""
    with closing(Link(url)) as link:
        link.declare(queues)


def depth(url: str, queue: Queue) -> int | None:
    """``Link.depth`` on a connection made for it. Raises BrokerUnavailable."""
    with closing(Link(url)) as link:
        return link.depth(queue)


def _options(url: str) -> dict[str, Any]:
    seconds = connect_timeout(url)
    if is_amqp(url):
        timeouts = {"read_timeout": IO_TIMEOUT, "write_timeout": IO_TIMEOUT}
    else:
        timeouts = {"socket_timeout": IO_TIMEOUT, "socket_connect_timeout": seconds}
    return {"connect_timeout": seconds, "transport_options": timeouts}


def _with_dead_letters(queues: tuple[Queue, ...]) -> list[Exchange]:
    used = exchanges_of(queues)
    dead = any(queue.dead_letters for queue in queues)
    return [exchange for exchange in EXCHANGES if exchange in used or (dead and exchange == DEAD)]


def _exchange(exchange: Exchange) -> Any:
    return kombu.Exchange(exchange.name, exchange.type, durable=True, arguments=exchange.arguments)
