"""The sole right to a queue, for one operator at a time."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from amqp.exceptions import ResourceLocked

from bus.errors import BrokerUnavailable, QueueBusy
from bus.topology import Queue
from bus.transport.admin import Link

# How long an operator on Redis who was killed is in the way of the next one.
SECONDS = 60

Renew = Callable[[], None]


def queue_lock(link: Link, queue: Queue) -> AbstractContextManager[Renew]:
    """Holds ``queue`` until the block ends or ``link`` breaks.

    Yields a function to call before every step, and more often than every SECONDS. It, and the
    beginning of the block, raise QueueBusy when somebody else has the queue, or BrokerUnavailable.
    """
    name = f"{queue.name}.operator"
    return _on_amqp(link, queue, name) if link.is_amqp else _on_redis(link, queue, name)


@contextmanager
def _on_amqp(link: Link, queue: Queue, name: str) -> Iterator[Renew]:
    """An exclusive queue: it belongs to its connection, and goes with it at once."""
    try:
        link.channel.queue_declare(name, exclusive=True, auto_delete=True)
    except ResourceLocked as error:
        raise QueueBusy(queue.name) from error
    except link.errors as error:
        raise BrokerUnavailable(f"RabbitMQ: {error!r}") from error
    try:
        yield lambda: None
    finally:
        # Sooner than the broker notices that the connection is gone, which does it in any case.
        with suppress(*link.errors):
            link.channel.queue_delete(name)


@contextmanager
def _on_redis(link: Link, queue: Queue, name: str) -> Iterator[Renew]:
    """A key that expires."""
    client = link.channel.client
    token = secrets.token_hex(8).encode()

    def renew() -> None:
        try:
            if not client.set(name, token, nx=True, ex=SECONDS) and client.get(name) != token:
                raise QueueBusy(queue.name)
            client.expire(name, SECONDS)
        except link.errors as error:
            raise BrokerUnavailable(f"Redis as broker: {error!r}") from error

    renew()
    try:
        yield renew
    finally:
        with suppress(*link.errors):
            if client.get(name) == token:
                client.delete(name)
