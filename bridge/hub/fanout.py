"""A room's sockets, and the frames that are written to all of them at once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Protocol

from bridge import metrics
from bridge.protocol import Encoded, Reason


class Socket(Protocol):
    """A browser's socket as a room sees it. No method waits or raises."""

    @property
    def user_id(self) -> int: ...

    @property
    def user_name(self) -> str: ...

    @property
    def push(self) -> Callable[[Encoded], object]:
        """Writes one frame or several. The fan-out keeps it: looking it up for every socket and
        event would cost as much as the call itself."""
        ...

    def dropped(self, room_id: uuid.UUID, reason: Reason) -> None:
        """The room dropped the socket, for ``reason``."""
        ...


class Fanout:
    """Collects frames, and writes them joined: one write a socket, however many frames.

    ``written`` counts the bytes to all sockets, also of frames that are still to be flushed.
    """

    def __init__(self) -> None:
        self.written = 0
        self.sockets: dict[Socket, Callable[[Encoded], object]] = {}
        self._frames: list[Encoded] = []
        self._events = 0
        # When the first event among the frames was logged, for the metrics.
        self._oldest: float | None = None

    def add_event(self, frame: Encoded, logged_at: float | None) -> None:
        """``logged_at`` as in ``bus.rooms.model.Published``."""
        self._oldest = self._oldest or logged_at
        self._events += 1
        self.add(frame)

    def add(self, frame: Encoded) -> None:
        self._frames.append(frame)
        self.written += len(frame) * len(self.sockets)

    def flush(self) -> None:
        if not self._frames:
            return
        frames = Encoded(b"".join(self._frames))
        metrics.FRAMES.inc(self._events * len(self.sockets))
        self._events = 0
        if self._oldest:
            metrics.LAG_SECONDS.observe(max(0.0, time.time() - self._oldest))
        self._frames.clear()
        self._oldest = None
        for push in self.sockets.values():
            push(frames)
