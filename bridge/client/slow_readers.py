"""Readers that are behind: how much waits for each, and the end of those who do not read on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
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

    def disconnect_slow(self) -> None:
        """It was behind too far, or read too little."""
        ...


@dataclass(slots=True)
class Backlog:
    """``unread`` when it was looked at last; since ``since`` the reader has taken ``taken``."""

    since: float
    unread: int
    taken: int = 0


class SlowReaders:
    """The readers of one server for whom more waits than the transport likes to hold.

    One is cut off when more than ``limits.unread`` waits for it, or when it takes less than
    ``limits.least_read`` in ``limits.behind`` seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self._loop = loop
        self._limits = limits
        self._backlogs: dict[Reader, Backlog] = {}
        self._is_watching = False

    def begin(self, reader: Reader) -> None:
        """``reader`` is behind from now on."""
        self._backlogs[reader] = Backlog(self._loop.time(), reader.unread)
        if not self._is_watching:
            self._is_watching = True
            # Not at once: all of it may have been written in this turn of the loop.
            self._loop.call_soon(self._look)

    def end(self, reader: Reader) -> None:
        """``reader`` has caught up, or gone; does nothing for one that was not behind."""
        self._backlogs.pop(reader, None)

    def __contains__(self, reader: Reader) -> bool:
        return reader in self._backlogs

    def _look(self) -> None:
        now = self._loop.time()
        for reader, backlog in list(self._backlogs.items()):
            self._note(backlog, reader.unread, now)
            if backlog.unread > self._limits.unread or backlog.since <= now - self._limits.behind:
                self.end(reader)
                reader.disconnect_slow()
        metrics.UNREAD.set(sum(backlog.unread for backlog in self._backlogs.values()))
        self._is_watching = bool(self._backlogs)
        if self._is_watching:
            self._loop.call_later(LOOK_SECONDS, self._look)

    def _note(self, backlog: Backlog, unread: int, now: float) -> None:
        backlog.taken += max(0, backlog.unread - unread)
        backlog.unread = unread
        if backlog.taken >= self._limits.least_read:
            backlog.since, backlog.taken = now, 0
