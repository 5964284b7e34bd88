"""Running one event consumer as a process."""

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

# After SIGTERM; service managers give at least this much.
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

    ``open_sink`` registers on the stack what is to be closed in the end. Replay opens the sink
    of every consumer module by this name, too. A sink with a method ``ping``, which raises when
    its store does not answer, is asked whenever somebody wants to know whether this is ready.
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

    A store may block for longer than a service manager waits, a batch as well as the farewell.
    What it has not taken was not acknowledged: the broker gives it to the next consumer.
    """
    finished = threading.Event()

    def watch() -> None:
        stop.wait()
        if not finished.wait(seconds):
            logger.warning("not ended within %g s; what was in hand goes back", seconds)
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
