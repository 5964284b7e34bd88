"""Questions to RabbitMQ, and the declaration of what is used there (kombu, py-amqp)."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from amqp.exceptions import AMQPError, ChannelError, NotFound, ResourceLocked

from bus.errors import BrokerUnavailable, QueueBusy, reason
from bus.topology import Exchange, Queue, lock_name
from bus.transport.interfaces import LOOK_SECONDS, Renew
from bus.transport.kombu_admin import KombuAdmin
from bus.transport.urls import IO_TIMEOUT


class RabbitAdmin(KombuAdmin):
    """An admin connection to RabbitMQ. See ``AdminConnection``."""

    def __init__(self, url: str) -> None:
        super().__init__(url, {"read_timeout": IO_TIMEOUT, "write_timeout": IO_TIMEOUT})

    def close(self) -> None:
        # There is nothing to save on a connection that is given up, and a polite close could block.
        with suppress(*self.errors, AMQPError, AttributeError):
            self.connection.collect()

    def _tls_options(self, authorities: str | None) -> dict[str, Any]:
        # kombu puts the host's name in the place of None.
        return {
            "cert_reqs": ssl.CERT_REQUIRED,
            "ca_certs": authorities,
            "server_hostname": None,
        }

    def ping(self) -> None:
        try:
            self.connection.channel().close()
        except self.errors as error:
            self.close()
            raise BrokerUnavailable(f"the broker does not answer: {reason(error)}") from error

    def depth(self, queue: Queue) -> int | None:
        declared = self._declared(queue)
        return declared and int(declared.message_count)

    def consumers(self, queue: Queue) -> int | None:
        """A single active consumer counts, its standbys do not."""
        declared = self._declared(queue)
        return declared and int(declared.consumer_count)

    def is_missing(self, queue: Queue) -> bool:
        return self._declared(queue) is None

    def has_message(self, queue: Queue) -> bool:
        """A count of 0 proves nothing of a quorum queue whose leader is still starting, so this
        takes a message, which waits for the leader, and returns it to the queue at once.
        """
        if self._take_and_return(queue):
            return True
        # Another connection may have taken the only message for the same question.
        time.sleep(LOOK_SECONDS)
        return self._take_and_return(queue)

    def purge(self, queue: Queue) -> int:
        with self.broker_errors(f"purge {queue.name}"):
            return int(self.channel.queue_purge(queue.name))

    def bindings(self, exchanges: Iterable[Exchange]) -> None:
        """AMQP has no such question; the management API does."""

    def bind(self, queue: Queue) -> bool:
        try:
            with self.probe() as probe:
                for binding in queue.bindings:
                    probe.queue_bind(queue.name, binding.exchange.name, binding.routing_key)
        except NotFound:
            return False
        except self.errors as error:
            raise BrokerUnavailable(f"cannot bind {queue.name}: {reason(error)}") from error
        return True

    def return_unsettled(self, queue: Queue, instance: str) -> None:
        """RabbitMQ returns what a consumer left as soon as its connection ends."""

    @contextmanager
    def queue_lock(self, queue: Queue) -> Iterator[Renew]:
        """An exclusive queue is the lock: it ends with its connection."""
        name = lock_name(queue)
        try:
            self.channel.queue_declare(name, exclusive=True, auto_delete=True)
        except ResourceLocked as error:
            raise QueueBusy(queue.name) from error
        except self.errors as error:
            raise BrokerUnavailable(f"cannot lock {queue.name}: {reason(error)}") from error
        try:
            yield lambda: None
        finally:
            # The broker removes it in any case, once it notices the end of the connection.
            with suppress(*self.errors):
                self.channel.queue_delete(name)

    @contextmanager
    def probe(self) -> Iterator[Any]:
        """A channel for what may be refused. The broker closes the channel with a refusal, and
        py-amqp would replace it by another, which would use up the connection's channels."""
        channel = self.connection.channel()
        try:
            yield channel
        except ChannelError:
            channel.close()
            raise
        channel.close()

    def _has_queue(self, queue: Queue) -> bool:
        return self._declared(queue) is not None

    def _declared(self, queue: Queue) -> Any:
        """The broker's counts of ``queue``; None without such a queue."""
        try:
            with self.probe() as probe:
                return probe.queue_declare(queue.name, passive=True)
        except NotFound:
            return None
        except self.errors as error:
            raise BrokerUnavailable(f"cannot ask for {queue.name}: {reason(error)}") from error

    def _take_and_return(self, queue: Queue) -> bool:
        with self.broker_errors(f"look into {queue.name}"), self.probe() as probe:
            message = probe.basic_get(queue.name)
            if message is not None:
                probe.basic_reject(message.delivery_tag, requeue=True)
            return message is not None
