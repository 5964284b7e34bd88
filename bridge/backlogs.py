"""Readers that are behind: how much waits for each, since when, and the end of those who stay."""

from __future__ import annotations

import asyncio
from typing import Protocol

from bridge import metrics
from bridge.limits import Limits

# How often it is looked at what waits.
LOOK_SECONDS = 0.02


class Reader(Protocol):
    @property
    def unread(self) -> int:
        """Bytes that wait for it."""
        ...

    def cut_slow(self) -> None:
        """It was behind too far or for too long."""
        ...


class Backlogs:
    """The readers of one server for whom more waits than the transport likes to hold."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self._loop = loop
        self._limits = limits
        self._since: dict[Reader, float] = {}
        self._is_watching = False

    def begin(self, reader: Reader) -> None:
        """``reader`` is behind from now on."""
        self._since[reader] = self._loop.time()
        if not self._is_watching:
            self._is_watching = True
            # Not at once: all of it may have been written in this turn of the loop.
            self._loop.call_soon(self._look)

    def end(self, reader: Reader) -> None:
        """``reader`` has caught up, or gone; does nothing for one that was not behind."""
        self._since.pop(reader, None)

    def __contains__(self, reader: Reader) -> bool:
        return reader in self._since

    def _look(self) -> None:
        oldest = self._loop.time() - self._limits.behind
        waiting = 0
        for reader, since in list(self._since.items()):
            unread = reader.unread
            if unread > self._limits.unread or since <= oldest:
                self.end(reader)
                reader.cut_slow()
            else:
                waiting += unread
        metrics.UNREAD.set(waiting)
        self._is_watching = bool(self._since)
        if self._is_watching:
            self._loop.call_later(LOOK_SECONDS, self._look)
