"""The events that are sent: of 290 bytes, each with a marker and the time of its sending."""

from __future__ import annotations

import time
import uuid

from bus import events
from bus.events import MessagePosted, Person, PostedData

EVENT_BYTES = 290
# A byte that occurs nowhere else in what the servers send, nor as a length of their frames.
MARKER = b"`"

_ALICE = Person(1, "alice")


def made(room_id: uuid.UUID) -> MessagePosted:
    """A message whose text begins with the marker and the time (monotonic, ns)."""
    text = f"{MARKER.decode()}{time.monotonic_ns()} "
    event = _posted(room_id, text)
    missing = EVENT_BYTES - len(events.encode(event))
    return _posted(room_id, text + "x" * missing)


def _posted(room_id: uuid.UUID, text: str) -> MessagePosted:
    return events.make(MessagePosted, room_id=room_id, actor=_ALICE, data=PostedData(text))
