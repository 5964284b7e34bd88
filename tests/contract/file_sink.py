"""A consumer that a test may kill: each batch goes to the end of a file, synced."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from bus.consumer import Consumer
from bus.events import Event
from bus.topology import MONGO_WRITER
from tests.support.consuming import bodies


class FileSink:
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
