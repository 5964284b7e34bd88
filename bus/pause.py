"""Pausing all consumers of one queue: they stay up, and the queue fills.

The note lies on the broker, as a message on ``<queue>.pause`` that nobody takes. So it outlives
every process and the broker's restart, and reaches every instance within POLL_SECONDS.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing

import msgspec

from bus import events
from bus.broker import HAND_SECONDS, Link, depth
from bus.errors import BrokerUnavailable
from bus.message import Message
from bus.publisher import Publisher
from bus.topology import Queue, pause_queue

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
# A quorum queue whose leader is starting, or does not answer within 250 ms, is told to be empty:
# so a pause ends only when it was seen to have ended as often as this, one look after the other.
LOOKS = 3


def pause(url: str, queue: Queue, by: str, reason: str = "") -> bool:
    """Pauses the consumers of ``queue``; False if they were paused already.

    ``by`` and ``reason`` are for whoever looks at the note. Raises a RetryableError.
    """
    note = pause_queue(queue)
    was_paused = bool(depth(url, note))
    with closing(Publisher(url, [note])) as publisher:
        publisher.publish(_note(note, by, reason))
    return not was_paused


def resume(url: str, queue: Queue) -> bool:
    """Lets the consumers of ``queue`` go on; False if they were not paused.

    Raises BrokerUnavailable.
    """
    note = pause_queue(queue)
    with closing(Link(url)) as link:
        if link.depth(note) is None:
            return False
        try:
            purged = link.channel.queue_purge(note.name)
            # A consumer that begins may have had it in hand.
            time.sleep(HAND_SECONDS)
            return bool(purged + link.channel.queue_purge(note.name))
        except link.errors as error:
            raise BrokerUnavailable(f"cannot purge {note.name}: {error}") from error


class PauseWatch:
    """Tells one consumer whether it is paused. Use it from one thread."""

    def __init__(self, url: str, queue: Queue) -> None:
        self._url = url
        self._queue = queue
        self._note = pause_queue(queue)
        self._link: Link | None = None
        self._paused = False
        # How often in a row no note was seen.
        self._empty = 0
        self._asked = float("-inf")

    def is_paused(self) -> bool:
        """Asks the broker at most once in POLL_SECONDS. Raises BrokerUnavailable."""
        if time.monotonic() - self._asked >= POLL_SECONDS:
            self._empty = 0 if self._ask() else self._empty + 1
            self._paused = self._empty == 0 or (self._paused and self._empty < LOOKS)
            self._asked = time.monotonic()
        return self._paused

    def rest(self, stop: threading.Event, on_paused: Callable[[], None]) -> None:
        """Returns when not paused, or when stopped; calls ``on_paused`` first if it is paused.

        Raises BrokerUnavailable.
        """
        if not self.is_paused():
            return
        logger.info("%s is paused; chatbus resume lets it go on", self._queue.name)
        on_paused()
        while not stop.is_set() and self.is_paused():
            stop.wait(POLL_SECONDS)
        logger.info("%s goes on", self._queue.name)

    def close(self) -> None:
        link, self._link = self._link, None
        if link:
            link.close()

    def _ask(self) -> bool:
        is_new = self._link is None
        self._link = link = self._link or Link(self._url)
        try:
            notes = link.depth(self._note)
            if notes == 0 and is_new and link.is_amqp:
                return link.holds_message(self._note)
            if notes is None:
                # RabbitMQ's log would tell of an error every time that somebody looks.
                link.declare([self._note])
            return bool(notes)
        except BrokerUnavailable:
            self.close()
            raise


def _note(queue: Queue, by: str, reason: str) -> Message:
    note_id = events.new_id()
    return Message(
        exchange="",
        routing_key=queue.name,
        body=msgspec.json.encode({"by": by, "reason": reason, "at": events.timestamp(note_id)}),
        message_id=str(note_id),
        type="pause",
    )
