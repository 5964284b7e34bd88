"""The changes to a topology that only RabbitMQ supports: deleting, unbinding, exclusive use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed

from bus.errors import BrokerRefused, QueueMissing, reason
from bus.transport.rabbitmq.admin import RabbitAdmin
from bus.transport.rabbitmq.management_api import BindingInfo, ExchangeInfo


class TopologyEditor(RabbitAdmin):
    """A connection for one change to the topology. Use it from one thread.

    Every method raises BrokerUnavailable, QueueMissing where the queue that it names does not
    exist, and BrokerRefused where it is in use, or not empty.
    """

    def has_exchange(self, exchange: ExchangeInfo) -> bool:
        try:
            with self._answers(exchange.name), self.probe() as probe:
                probe.exchange_declare(exchange.name, exchange.type, passive=True)
        except QueueMissing:
            return False
        return True

    def declare_exchange(self, exchange: ExchangeInfo) -> None:
        with self._answers(exchange.name):
            self.channel.exchange_declare(
                exchange.name,
                exchange.type,
                durable=True,
                auto_delete=False,
                arguments={**exchange.arguments},
            )

    def delete_exchange(self, name: str) -> None:
        """Deletes the exchange, unless something is bound to it."""
        with self._answers(name), self.probe() as probe:
            probe.exchange_delete(name, if_unused=True)

    def delete_queue(self, name: str, *, if_unused: bool = False, if_empty: bool = False) -> None:
        """Deletes the queue; without the conditions, together with its messages."""
        with self._answers(name), self.probe() as probe:
            probe.queue_delete(name, if_unused=if_unused, if_empty=if_empty)

    def consume_exclusively(self, queue: str) -> None:
        """Subscribes to ``queue`` until the connection ends, and keeps all others from it."""
        with self._answers(queue):
            self.channel.basic_consume(queue, exclusive=True)

    def delete_consumed(self, queue: str) -> None:
        """Deletes the queue of ``consume_exclusively``, on the channel that consumes it.

        Deleted on another channel, it would end this one's subscription, which counts as an error.
        """
        with self._answers(queue):
            self.channel.queue_delete(queue)

    def counts(self, queue: str) -> tuple[int, int]:
        """How many messages wait on ``queue`` and how many consumers it has, at one moment."""
        with self._answers(queue), self.probe() as probe:
            declared = probe.queue_declare(queue, passive=True)
        return declared.message_count, declared.consumer_count

    def add_bindings(self, queue: str, bindings: Iterable[BindingInfo]) -> None:
        """Binds ``queue`` as ``bindings`` bind their own queues."""
        with self._answers(queue):
            for each in bindings:
                arguments = {**each.arguments}
                self.channel.queue_bind(queue, each.source, each.routing_key, arguments=arguments)

    def remove_bindings(self, bindings: Iterable[BindingInfo]) -> None:
        for each in bindings:
            queue, arguments = each.destination, {**each.arguments}
            with self._answers(queue):
                self.channel.queue_unbind(queue, each.source, each.routing_key, arguments=arguments)

    @contextmanager
    def _answers(self, name: str) -> Iterator[None]:
        """Turns the broker's refusals and the library's errors into ours."""
        with self.broker_errors(f"change {name}"):
            try:
                yield
            except NotFound as error:
                raise QueueMissing(reason(error)) from error
            except (AccessRefused, PreconditionFailed) as error:
                raise BrokerRefused(reason(error)) from error
