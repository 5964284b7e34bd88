"""Running one event consumer as a process."""

from __future__ import annotations

from dataclasses import dataclass

from bus.consumer import Consumer, Sink
from bus.process import notify_ready, stop_event
from bus.settings import Environment
from bus.topology import Queue


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


def run(settings: ConsumerSettings, queue: Queue, sink: Sink) -> None:
    """Consumes ``queue`` into ``sink`` until SIGTERM or SIGINT."""
    consumer = Consumer(
        url=settings.broker_url,
        queue=queue,
        sink=sink,
        stop=stop_event(),
        batch=settings.batch,
        instance=settings.instance,
        on_connected=notify_ready,
    )
    consumer.run()
