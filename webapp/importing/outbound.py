"""Publishes chunks of messages in order, several at a time, and repeats those that fail."""

from __future__ import annotations

import logging
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass

from bus.errors import RetryableError
from bus.message import Message
from bus.publishing import Publisher
from bus.runtime.backoff import Backoff

logger = logging.getLogger(__name__)

CHUNKS = 8
CONFIRM_SECONDS = 30.0
GIVE_UP_SECONDS = 120.0


@dataclass
class _Chunk:
    messages: list[Message]
    confirmed: Future[None]


class Outbound:
    """Publishes a chunk without waiting for the confirms of the one before."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._open: deque[_Chunk] = deque()

    def send(self, messages: list[Message]) -> None:
        """Starts to publish ``messages``; waits while CHUNKS are unconfirmed.

        Raises RetryableError when the oldest chunk stays unconfirmed for GIVE_UP_SECONDS.
        """
        if messages:
            self._open.append(_Chunk(messages, self._submit(messages)))
        while len(self._open) >= CHUNKS:
            self._settle_oldest()

    def drain(self) -> None:
        """Returns when every chunk is confirmed. Raises as ``send`` does."""
        while self._open:
            self._settle_oldest()

    def _settle_oldest(self) -> None:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        backoff = Backoff()
        while True:
            try:
                self._open[0].confirmed.result()
                break
            except RetryableError as error:
                if time.monotonic() > deadline:
                    raise
                delay = backoff.next()
                logger.warning("%s; publishing again in %.1f s", error, delay)
                time.sleep(delay)
                self._send_all_again()
        self._open.popleft()

    def _send_all_again(self) -> None:
        """Begins with the oldest, to keep the order; sinks ignore what they have already."""
        for chunk in self._open:
            chunk.confirmed.cancel()
        for chunk in self._open:
            chunk.confirmed = self._submit(chunk.messages)

    def _submit(self, messages: list[Message]) -> Future[None]:
        return self._publisher.submit(*messages, timeout=CONFIRM_SECONDS)
