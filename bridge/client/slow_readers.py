"""Tracks each slow reader's unsent bytes, and disconnects those that fall too far behind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from bridge import metrics
from bridge.limits import Limits

# Seconds between two looks at the unsent bytes.
LOOK_SECONDS = 0.02


class Reader(Protocol):
    @property
    def unread(self) -> int:
        """Bytes that wait for it."""
        ...

    def disconnect_slow(self) -> None:
        """It is too far behind, or has read too little."""
        ...


@dataclass(slots=True)
class Progress:
    """``unread`` bytes at the last look; since ``since`` the reader has read ``read`` bytes."""

    since: float
    unread: int
    read: int = 0


class SlowReaders:
    """The readers of one bridge that are behind: with more unsent than their transport buffers.

    A reader is disconnected when it has more than ``limits.unread`` bytes unsent, or when it reads
    less than ``limits.least_read`` bytes in ``limits.behind`` seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self._loop = loop
        self._limits = limits
        self._readers: dict[Reader, Progress] = {}
        self._is_watching = False

    def add(self, reader: Reader) -> None:
        """``reader`` is behind from now on."""
        self._readers[reader] = Progress(self._loop.time(), reader.unread)
        if not self._is_watching:
            self._is_watching = True
            # Not at once: all of it may have been written in this turn of the loop.
            self._loop.call_soon(self._look)

    def discard(self, reader: Reader) -> None:
        """``reader`` has caught up, or has gone; does nothing for one that was not behind."""
        self._readers.pop(reader, None)

    def __contains__(self, reader: Reader) -> bool:
        return reader in self._readers

    def _look(self) -> None:
        now = self._loop.time()
        for reader, progress in list(self._readers.items()):
            self._update(progress, reader.unread, now)
            if progress.unread > self._limits.unread or progress.since <= now - self._limits.behind:
                self.discard(reader)
                reader.disconnect_slow()
        metrics.UNREAD.set(sum(progress.unread for progress in self._readers.values()))
        self._is_watching = bool(self._readers)
        if self._is_watching:
            self._loop.call_later(LOOK_SECONDS, self._look)

    def _update(self, progress: Progress, unread: int, now: float) -> None:
        progress.read += max(0, progress.unread - unread)
        progress.unread = unread
        if progress.read >= self._limits.least_read:
            progress.since, progress.read = now, 0
