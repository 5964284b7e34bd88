"""Queue ``chat.redis_publisher`` → the rooms' logs in Redis, and through them the bridges.

Start another for each standby that you want. The broker keeps a single one active, because the
order in which it appends is the order of the room.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from bus import topology
from bus.events import Event
from bus.rooms.log_writer import RoomLogWriter
from bus.runtime.settings import Environment
from consumers import process

# One name for all replays: a second run continues where the first was interrupted.
REPLAY = "replay"


class RedisPublisher:
    """The sink: each event into its room's log."""

    def __init__(self, log: RoomLogWriter) -> None:
        self._log = log

    def store(self, batch: Sequence[Event]) -> None:
        self._log.append(batch)

    def replay(self, batch: Sequence[Event]) -> None:
        """Fills the logs that are gone, and pushes nothing to browsers."""
        self._log.append(batch, replay=REPLAY)

    def ping(self) -> None:
        """Raises StoreUnavailable when Redis does not answer."""
        self._log.ping()


def open_sink(environment: Environment, stack: ExitStack) -> RedisPublisher:
    log = RoomLogWriter.connect(environment.redis_url())
    stack.callback(log.close)
    return RedisPublisher(log)


def main(environment: Environment) -> None:
    process.run(environment, topology.REDIS_PUBLISHER, open_sink)
