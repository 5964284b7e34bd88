"""Waits until the history has what an import published, and counts what it lacks."""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable

from bus.errors import StoreUnavailable
from webapp.history.selectors import known_ids

logger = logging.getLogger(__name__)

STALL_SECONDS = 60.0
LOOK_SECONDS = 0.1
# With more chunks than this, those that have arrived are forgotten while the import goes on.
CHUNKS = 100


class Arrivals:
    """The chunks of message ids that the history may lack."""

    def __init__(self) -> None:
        self._chunks: deque[list[uuid.UUID]] = deque()
        self.missing = 0

    def expect(self, ids: list[uuid.UUID]) -> None:
        self._chunks.append(ids)
        self.missing += len(ids)
        if len(self._chunks) > CHUNKS:
            self._look()

    def wait(self, on_look: Callable[[], None]) -> None:
        """Returns when nothing is missing, or nothing more has arrived for STALL_SECONDS.

        Calls ``on_look`` after each look into the history.
        """
        while self._chunks and self._more_arrives(on_look):
            pass

    def _more_arrives(self, on_look: Callable[[], None]) -> bool:
        before = self.missing
        deadline = time.monotonic() + STALL_SECONDS
        while self.missing == before and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            self._look()
            on_look()
        if self.missing == before:
            self._look(everywhere=True)
        return self.missing < before

    def _look(self, *, everywhere: bool = False) -> None:
        """Forgets what has arrived; stops at the first chunk that lacks something."""
        try:
            for chunk in self._chunks:
                self._forget_arrived(chunk)
                if chunk and not everywhere:
                    break
        except StoreUnavailable as error:
            logger.warning("cannot see which messages are stored: %s", error)
        while self._chunks and not self._chunks[0]:
            self._chunks.popleft()

    def _forget_arrived(self, chunk: list[uuid.UUID]) -> None:
        if chunk:
            known = known_ids(chunk)
            self.missing -= len(known)
            chunk[:] = [event_id for event_id in chunk if event_id not in known]
