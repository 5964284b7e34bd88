"""Runs one event consumer as a process."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bus.consuming import Consumer, Sink
from bus.runtime.health import Check, Probes
from bus.runtime.ops_server import start_ops
from bus.runtime.process import notify_ready, stop_event
from bus.runtime.settings import Environment
from bus.topology import Queue
from bus.transport.broker_probe import BrokerProbe

logger = logging.getLogger(__name__)

# How long a stop may take after SIGTERM; service managers wait at least this long.
STOP_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """``instance`` tells apart the processes of one consumer where the broker is Redis."""

    broker_url: str
    batch: int
    instance: str

    @classmethod
    def from_environment(cls, environment: Environment) -> ConsumerSettings:
        return cls(
            broker_url=environment.broker_url(),
            batch=environment.integer("CONSUMER_BATCH", 500, minimum=1, maximum=10_000),
            instance=environment.text("CONSUMER_INSTANCE", "1"),
        )


def run(
    environment: Environment, queue: Queue, open_sink: Callable[[Environment, ExitStack], Sink]
) -> None:
    """Consumes ``queue`` into the sink that ``open_sink`` opens, until SIGTERM or SIGINT.

    ``open_sink`` registers on the stack what must be closed in the end; replay too finds it by
    this name in the consumer's module. Where the sink has a method ``ping``, which raises when
    the store does not answer, readiness includes it.
    """
    settings = ConsumerSettings.from_environment(environment)
    stop = stop_event()
    with ends_within(STOP_SECONDS, stop), ExitStack() as stack:
        sink = open_sink(environment, stack)
        consumer = Consumer(
            url=settings.broker_url,
            queue=queue,
            sink=sink,
            stop=stop,
            batch=settings.batch,
            instance=settings.instance,
            on_connected=notify_ready,
        )
        checks = _checks(settings.broker_url, consumer, sink)
        stack.callback(start_ops(environment, ready=Probes(checks)).close)
        consumer.run()


@contextmanager
def ends_within(seconds: float, stop: threading.Event) -> Iterator[None]:
    """Ends the process when the block goes on for ``seconds`` after ``stop`` is set.

    A store may block for longer than a service manager waits, in a batch or when it is closed.
    What the store has not accepted is not acknowledged: the broker delivers it again.
    """
    finished = threading.Event()

    def watch() -> None:
        stop.wait()
        if not finished.wait(seconds):
            logger.warning(
                "did not stop within %g s; unacknowledged messages return to the queue", seconds
            )
            os._exit(0)

    threading.Thread(target=watch, name="stop-watch", daemon=True).start()
    try:
        yield
    finally:
        finished.set()


def _checks(broker_url: str, consumer: Consumer, sink: Sink) -> dict[str, Check]:
    checks: dict[str, Check] = {"broker": BrokerProbe(broker_url), "queue": consumer.status}
    if ping := getattr(sink, "ping", None):
        checks["sink"] = ping
    return checks
