"""What was posted, what it was answered, and how the stores differ from that."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

# A list of thousands helps nobody.
SHOWN = 5


@dataclass(slots=True)
class Posting:
    """One message of one writer, and the answer to every attempt at posting it."""

    room_id: str
    body: str
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    attempts: list[str] = field(default_factory=list)

    def note(self, answer: str) -> None:
        self.attempts.append(f"{time.strftime('%H:%M:%S')} {answer}")

    def __str__(self) -> str:
        return f"“{self.body}” in room {self.room_id}: {', '.join(self.attempts)}"


class Ledger:
    """The messages that were answered 202, by id, in the order of the answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accepted: dict[str, Posting] = {}
        self._refused = 0

    def accept(self, message_id: str, posting: Posting) -> None:
        """Raises AssertionError when two messages were given one id."""
        with self._lock:
            known = self._accepted.setdefault(message_id, posting)
        assert known is posting, f"two messages have the id {message_id}: {known}, {posting}"

    def refuse(self) -> None:
        """An attempt was answered by an error, or not at all."""
        with self._lock:
            self._refused += 1

    @property
    def accepted(self) -> int:
        with self._lock:
            return len(self._accepted)

    @property
    def refused(self) -> int:
        with self._lock:
            return self._refused

    def postings(self, room_id: str | None = None) -> dict[str, Posting]:
        """Id → posting, of one room or of all."""
        with self._lock:
            return {
                message_id: posting
                for message_id, posting in self._accepted.items()
                if room_id in (None, posting.room_id)
            }

    def differences(self, place: str, found: Mapping[str, str], room_id: str | None) -> list[str]:
        """How ``found`` (id → text of message) differs from what was accepted, in words."""
        postings = self.postings(room_id)
        missing = [f"{i}: {posting}" for i, posting in postings.items() if i not in found]
        surplus = [f"{i}: {text}" for i, text in found.items() if i not in postings]
        changed = [
            f"{i}: {found[i]} instead of {posting}"
            for i, posting in postings.items()
            if found.get(i, posting.body) != posting.body
        ]
        return [
            *report(f"accepted, but not in {place}", missing),
            *report(f"in {place}, but never accepted", surplus),
            *report(f"with another text in {place}", changed),
        ]

    def out_of_order(self, room_id: str, found: Iterable[str]) -> list[str]:
        """The messages in ``found`` that stand behind one which was accepted later."""
        postings = self.postings(room_id)
        places = {message_id: place for place, message_id in enumerate(postings)}
        wrong, highest = [], -1
        for message_id in found:
            place = places.get(message_id, highest)
            if place < highest:
                wrong.append(f"{message_id}: {postings[message_id]}")
            highest = max(highest, place)
        return report("out of order in the room's log", wrong)


def report(what: str, lines: list[str]) -> list[str]:
    """A heading with the number of ``lines``, and the first of them."""
    if not lines:
        return []
    rest = ["  …"] if len(lines) > SHOWN else []
    return [f"{len(lines)} {what}:", *(f"  {line}" for line in lines[:SHOWN]), *rest]
