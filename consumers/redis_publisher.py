"""Queue ``chat.redis_publisher`` → the rooms' logs in Redis, and through them the bridges.

Start one per standby you want; the broker lets a single one be active, because the order in
which it appends is the order of the room.
"""

from __future__ import annotations

from collections.abc import Sequence

from bus import topology
from bus.events import Event
from bus.room_log import RoomLogWriter
from bus.settings import Environment
from consumers import process


class RedisPublisher:
    """The sink: each event into its room's log."""

    def __init__(self, log: RoomLogWriter) -> None:
        self._log = log

    def store(self, batch: Sequence[Event]) -> None:
        self._log.append(batch)


def main(environment: Environment) -> None:
    settings = process.ConsumerSettings.from_environment(environment)
    log = RoomLogWriter.connect(environment.redis_url())
    try:
        process.run(settings, topology.REDIS_PUBLISHER, RedisPublisher(log))
    finally:
        log.close()
