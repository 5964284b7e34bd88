"""What both ends of an AMQP connection share (pika)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pika
from pika.exceptions import AMQPError

from bus.broker import CONNECT_TIMEOUT, IO_TIMEOUT
from bus.errors import BrokerUnavailable


def parameters(url: str, *, heartbeat: int) -> list[pika.URLParameters]:
    """One set of parameters for each host of ``url`` (separated by ``;``), in random order.

    ``heartbeat`` in seconds; 0 where nobody would answer the broker's while nothing is sent.
    """
    hosts = url.split(";")
    random.shuffle(hosts)
    return [_parameters(host, heartbeat) for host in hosts]


def _parameters(url: str, heartbeat: int) -> pika.URLParameters:
    parameters = pika.URLParameters(url)
    # Like kombu, take "amqp://host//" for the virtual host "/".
    parameters.virtual_host = parameters.virtual_host or "/"
    parameters.heartbeat = heartbeat
    parameters.blocked_connection_timeout = 30
    parameters.socket_timeout = CONNECT_TIMEOUT
    parameters.stack_timeout = IO_TIMEOUT
    return parameters


@contextmanager
def broker_errors() -> Iterator[None]:
    """Turns pika's errors into ours."""
    try:
        yield
    except (AMQPError, OSError) as error:
        raise BrokerUnavailable(f"RabbitMQ: {error!r}") from error
