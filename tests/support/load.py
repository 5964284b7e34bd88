"""People who chat while something breaks, and the proof that nothing of it was lost.

    with Load(writers, reader, mongo_url=…) as load:
        load.wait_for_accepted(20)
        …break and mend something…
        load.settle()

Each writer posts to a room of its own, at a steady rate and one message after the other, as the
page does: what was not answered 202 is posted again with the same Idempotency-Key. A reader
follows all rooms over a socket.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Self

import requests
from pymongo import MongoClient

from tests.support.ledger import Ledger, Posting, report
from tests.support.listener import Listener
from tests.support.person import Person
from tests.support.wait import wait_until

# The page's own bound for a request.
REQUEST_SECONDS = 15.0
LONGEST_PAUSE = 1.0
RECOVERY_SECONDS = 90.0
# After every so many messages it posts once more, as if the answer had been lost.
ANSWER_LOST = 10


class Writer(threading.Thread):
    """Posts to one room until ``finish``; then it stops as soon as all was accepted."""

    def __init__(self, person: Person, room_id: str, rate: float, ledger: Ledger) -> None:
        super().__init__(name=f"writer of {room_id}", daemon=True)
        self.failure: BaseException | None = None
        self._person = person
        self._room_id = room_id
        self._interval = 1 / rate
        self._ledger = ledger
        self._finishing = threading.Event()
        self._number = 0

    def finish(self) -> None:
        self._finishing.set()

    def run(self) -> None:
        try:
            while not self._finishing.wait(random.uniform(0.5, 1.5) * self._interval):
                self.post()
        except Exception as error:  # noqa: BLE001 - whoever waits for this thread raises it
            self.failure = error

    def post(self) -> None:
        """Posts the next message, again and again until it is accepted."""
        self._number += 1
        posting = Posting(self._room_id, f"{self._number}: {uuid.uuid4()} ☂")
        message_id = self._accepted(posting)
        self._ledger.accept(message_id, posting)
        if self._number % ANSWER_LOST == 0:
            again = self._accepted(posting)
            assert again == message_id, f"one key gave two ids, {message_id} and {again}"

    def _accepted(self, posting: Posting) -> str:
        """Posts until it is accepted; the message's id."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        pause = 0.0
        while not (message_id := self._attempt(posting)):
            assert time.monotonic() < deadline, f"never accepted: {posting}"
            pause = min(LONGEST_PAUSE, pause + 0.2)
            # As the page does; nothing tells it when to come again.
            time.sleep(pause)
        return message_id

    def _attempt(self, posting: Posting) -> str | None:
        """The message's id, or None when the same may be posted again."""
        session = self._person.session
        try:
            answer = session.post(
                f"{self._person.site}/api/rooms/{self._room_id}/messages",
                json={"body": posting.body},
                headers={
                    "X-CSRFToken": session.cookies["csrftoken"],
                    "Idempotency-Key": posting.key,
                },
                timeout=REQUEST_SECONDS,
            )
        except requests.RequestException as error:
            posting.note(type(error).__name__)
            return None
        posting.note(str(answer.status_code))
        if answer.status_code == requests.codes.accepted:
            return str(answer.json()["id"])
        temporary = answer.status_code in (503, 429) and "Retry-After" in answer.headers
        assert temporary, f"a page would give up: {answer.status_code} {answer.text[:500]}"
        self._ledger.refuse()
        return None


class Load:
    """``writers``, each in a new room with ``rate`` messages a second, and one ``reader``, at
    ``bridge_url`` or where its tickets send it."""

    def __init__(
        self,
        writers: Sequence[Person],
        reader: Person,
        *,
        mongo_url: str,
        rate: float,
        bridge_url: str | None = None,
    ) -> None:
        self.reader = reader
        self.ledger = Ledger()
        self._mongo: MongoClient[dict[str, str]] = MongoClient(mongo_url)
        self.rooms = [writer.make_room("under load") for writer in writers]
        self._writers = [
            Writer(person, room_id, rate, self.ledger)
            for person, room_id in zip(writers, self.rooms, strict=True)
        ]
        for person, room_id in zip(writers, self.rooms, strict=True):
            person.invite(room_id, reader)
        self.listener = Listener(reader, self.rooms, bridge_url)

    def __enter__(self) -> Self:
        self.listener.start()
        wait_until(lambda: self.listener.is_following, what="the reader follows its rooms")
        for writer in self._writers:
            writer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for writer in self._writers:
            writer.finish()
        self.listener.stop()
        self._mongo.close()

    def wait_for_accepted(self, more: int = 20, timeout: float = RECOVERY_SECONDS) -> None:
        """Waits until that many more messages were answered 202: the load goes on."""
        goal = self.ledger.accepted + more
        self._wait(lambda: self.ledger.accepted >= goal, timeout, f"{more} more are accepted")

    def wait_for_refusal(self, timeout: float = 30.0) -> None:
        """Waits until an attempt that was not accepted comes to light."""
        before = self.ledger.refused
        self._wait(lambda: self.ledger.refused > before, timeout, "a POST is refused")

    def run_for(self, seconds: float) -> None:
        """Lets a fault last that long under load."""
        end = time.monotonic() + seconds
        self._wait(lambda: time.monotonic() >= end, seconds + 5, "time passes")

    def shown(self) -> int:
        """How many messages the reader has on its pages."""
        return sum(len(view.messages) for view in self.listener.views.values())

    def stored(self) -> dict[str, str]:
        """Id → text of what MongoDB has of these rooms."""
        messages = self._mongo.get_default_database("chat")["messages"]
        found = messages.find({"room_id": {"$in": self.rooms}}, {"body": 1})
        return {document["_id"]: document["body"] for document in found}

    def settle(self, timeout: float = RECOVERY_SECONDS) -> None:
        """Ends the load, waits until all has arrived, and compares.

        Raises AssertionError with every difference between what was accepted, what MongoDB holds,
        and what the reader was sent and shows.
        """
        for writer in self._writers:
            writer.finish()
        for writer in self._writers:
            writer.join(timeout)
            assert not writer.is_alive(), f"{writer.name} still has a message that is not accepted"
        self._raise_failures()
        try:
            self._wait(self._has_arrived, timeout, "all has arrived")
            # What comes twice must have been ignored, not merely not read yet: whatever still
            # lies on the queues is in front of these.
            for writer in self._writers:
                writer.post()
            self._wait(self._has_arrived, timeout, "the last ones have arrived")
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.differences()])) from error
        differences = self.differences()
        assert not differences, "\n".join(differences)

    def differences(self) -> list[str]:
        """Ends the reader; all that is not as it should be, in words."""
        self.listener.stop()
        lines = self.ledger.differences("MongoDB", self.stored(), None)
        for room_id, view in self.listener.views.items():
            lines += self.ledger.differences("the reader's list", view.messages, room_id)
            lines += self.ledger.out_of_order(room_id, view.in_log_order())
            twice = view.pushed_twice().items()
            lines += report("pushed twice", [f"{event}: offsets {o}" for event, o in twice])
        return [*lines, *report("connections lost", self.listener.losses)] if lines else []

    def _has_arrived(self) -> bool:
        expected = set(self.ledger.postings())
        # Copies: the reader goes on meanwhile.
        shown = set().union(*(view.messages.copy() for view in self.listener.views.values()))
        return expected <= shown and expected <= set(self.stored())

    def _wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        def met() -> bool:
            self._raise_failures()
            return condition()

        wait_until(met, timeout, what)

    def _raise_failures(self) -> None:
        for thread in (*self._writers, self.listener):
            if thread.failure:
                raise AssertionError(f"{thread.name} ended") from thread.failure
