"""Pauses all consumers of one queue: they stay up, and the queue fills.

A pause is a note on the broker, a message on ``<queue>.pause`` that no consumer takes. So it
outlives every process and the broker's restart, and reaches every instance within POLL_SECONDS.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing

import msgspec

from bus import events
from bus.errors import BrokerUnavailable
from bus.message import Message
from bus.publishing import Publisher
from bus.topology import Queue, pause_queue
from bus.transport import AdminConnection, connect_admin
from bus.transport.interfaces import LOOK_SECONDS

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
# How long ``resume`` waits for consumers that are looking at a note to return it.
RESUME_SECONDS = 5.0


def pause(url: str, queue: Queue, by: str, reason: str = "") -> bool:
    """Pauses the consumers of ``queue``; False if they were paused already.

    ``by`` and ``reason`` are for the next operator. Raises a RetryableError.
    """
    note = pause_queue(queue)
    with closing(connect_admin(url)) as admin:
        was_paused = bool(_is_noted(admin, note))
    with closing(Publisher(url, [note])) as publisher:
        publisher.publish(_note(note, by, reason))
    return not was_paused


def resume(url: str, queue: Queue) -> bool:
    """Resumes the consumers of ``queue``; False if they were not paused.

    Raises BrokerUnavailable.
    """
    note = pause_queue(queue)
    with closing(connect_admin(url)) as admin:
        if admin.depth(note) is None:
            return False
        return bool(_purge(admin, note))


def _purge(admin: AdminConnection, note: Queue) -> int:
    """Removes the notes, also one that a consumer is looking at, and returns their number."""
    deadline = time.monotonic() + RESUME_SECONDS
    purged, quiet = 0, 0
    # A connection that is looking at a note counts as a consumer, and returns it in a moment.
    while quiet < 2:
        removed = admin.purge(note)
        purged += removed
        quiet = 0 if removed or admin.consumers(note) else quiet + 1
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"another connection keeps a message of {note.name}")
        time.sleep(LOOK_SECONDS)
    return purged


def _is_noted(admin: AdminConnection, note: Queue) -> bool | None:
    """Whether ``note`` holds a note; None without that queue. Raises BrokerUnavailable."""
    notes = admin.depth(note)
    if notes == 0:
        # The count may come from a queue whose leader is still starting, or slow.
        return admin.has_message(note)
    return None if notes is None else True


class PauseWatch:
    """Answers one consumer whether it is paused. Use it from one thread."""

    def __init__(self, url: str, queue: Queue) -> None:
        self._url = url
        self._queue = queue
        self._note = pause_queue(queue)
        self._admin: AdminConnection | None = None
        self._paused = False
        self._asked = float("-inf")

    def is_paused(self) -> bool:
        """Asks the broker at most once in POLL_SECONDS. Raises BrokerUnavailable."""
        if time.monotonic() - self._asked >= POLL_SECONDS:
            self._paused = self._ask()
            self._asked = time.monotonic()
        return self._paused

    def rest(self, stop: threading.Event, on_paused: Callable[[], None]) -> None:
        """Returns when not paused, or when stopped; calls ``on_paused`` first if it is paused.

        Raises BrokerUnavailable.
        """
        if not self.is_paused():
            return
        logger.info("%s is paused; resume it with chatbus resume", self._queue.name)
        on_paused()
        while not stop.is_set() and self.is_paused():
            stop.wait(POLL_SECONDS)
        logger.info("%s resumed", self._queue.name)

    def close(self) -> None:
        admin, self._admin = self._admin, None
        if admin:
            admin.close()

    def _ask(self) -> bool:
        is_new = self._admin is None
        self._admin = admin = self._admin or connect_admin(self._url)
        try:
            # A count of 0 is enough to see that nothing has changed.
            if not is_new and not self._paused and admin.depth(self._note) == 0:
                return False
            is_noted = _is_noted(admin, self._note)
            if is_noted is None:
                # RabbitMQ would log an error at every look for a queue that does not exist.
                admin.declare([self._note])
            return bool(is_noted)
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
