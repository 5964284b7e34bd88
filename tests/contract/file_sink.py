"""Consumers that a test may kill, each in a process of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack

from bus.consuming import Consumer
from bus.events import Event
from bus.runtime.settings import Environment
from bus.topology import MONGO_WRITER
from consumers import process
from tests.support.consuming import ListSink, bodies


class FileSink:
    """Each batch goes to the end of a file, synced."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "a")  # noqa: SIM115 - open for the life of the process

    def store(self, batch: Sequence[Event]) -> None:
        self._file.writelines(f"{body}\n" for body in bodies(batch))
        self._file.flush()
        os.fsync(self._file.fileno())


def consume(url: str, path: str) -> None:
    Consumer(
        url=url, queue=MONGO_WRITER, sink=FileSink(path), stop=threading.Event(), batch=10
    ).run()


def consume_without_a_farewell(url: str) -> None:
    """Closing the sink never ends."""

    def open_sink(environment: Environment, stack: ExitStack) -> ListSink:
        stack.callback(threading.Event().wait)
        return ListSink()

    process.STOP_SECONDS = 1.0
    process.run(Environment({"BROKER_URL": url}), MONGO_WRITER, open_sink)
