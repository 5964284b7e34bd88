"""A consumer whose MongoDB fails in the middle of a batch loses nothing and acks nothing early.

The faults are MongoDB's own fail points, which SecantusDB has. pymongo repeats a write once by
itself when the error says that it may, so each fault comes more than once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from bus.events import Event
from bus.topology import MONGO_WRITER
from consumers.mongo_writer import MongoWriter, open_messages
from tests.support.broker import depth, empty
from tests.support.consuming import consuming, publish
from tests.support.events import deleted, edited, posted
from tests.support.fail_point import FAULTS, TIMEOUT_MS, FailPoint
from tests.support.servers import Redis, Secantus
from tests.support.wait import wait_until


class History:
    """A consumer's sink on a database of its own, which counts failures and events to ack."""

    def __init__(self, url: str) -> None:
        self._messages = open_messages(url)
        self._writer = MongoWriter(self._messages)
        self.failures = 0
        self.acked = 0

    def store(self, batch: Sequence[Event]) -> None:
        try:
            self._writer.store(batch)
        except Exception:
            self.failures += 1
            raise
        self.acked += len(batch)

    @property
    def bodies(self) -> dict[str, str]:
        return {document["_id"]: document["body"] for document in self._messages.find()}

    def close(self) -> None:
        self._messages.database.client.close()


@pytest.fixture
def history(secantus: Secantus, monkeypatch: pytest.MonkeyPatch) -> Iterator[History]:
    monkeypatch.setattr("consumers.mongo_writer.TIMEOUT_MS", TIMEOUT_MS)
    history = History(secantus.fresh_database())
    yield history
    history.close()


@pytest.fixture
def broker(redis_server: Redis) -> str:
    url = redis_server.fresh_database()
    empty(url)
    return url


def lives() -> tuple[list[Event], dict[str, str]]:
    """Thirty messages, a third of them edited and a third deleted, and what the history shows."""
    messages = [posted(f"{number}") for number in range(30)]
    changes = [edited(message, f"new {message.data.body}") for message in messages[10:20]]
    ends = [deleted(message) for message in messages[20:]]
    bodies = {str(message.id): message.data.body for message in messages}
    bodies |= {str(change.data.message_id): change.data.body for change in changes}
    bodies |= {str(end.data.message_id): "" for end in ends}
    return [*messages, *changes, *ends], bodies


def nothing_waits(url: str) -> bool:
    assert MONGO_WRITER.dead_letters
    assert depth(url, MONGO_WRITER.dead_letters) == 0
    return depth(url, MONGO_WRITER) == 0


@pytest.mark.parametrize("command", ["insert", "update"])
@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_in_a_batch_everything_is_stored(
    broker: str, history: History, fail_point: FailPoint, fault: str, command: str
) -> None:
    """The inserts of a batch come first: when an update fails, they are stored already."""
    sent, expected = lives()
    publish(broker, *sent)
    fail_point.arm(command, {"times": 3}, fault)
    with consuming(broker, history):
        wait_until(lambda: history.acked == len(sent), what="everything is acked")
    assert history.failures
    assert history.bodies == expected
    assert nothing_waits(broker)


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_acked_that_was_not_written(
    broker: str, history: History, fail_point: FailPoint, fault: str
) -> None:
    sent = [posted(f"{number}") for number in range(50)]
    publish(broker, *sent)
    fail_point.arm("insert", {"skip": 2}, fault)
    with consuming(broker, history, batch=10):
        wait_until(lambda: history.failures, what="the fault")
    assert depth(broker, MONGO_WRITER) == len(sent) - history.acked == 30
    assert {str(event.id) for event in sent[:20]} <= history.bodies.keys()
    fail_point.off()
    with consuming(broker, history, batch=10):
        wait_until(lambda: history.acked == len(sent), what="everything is acked")
    assert len(history.bodies) == len(sent)
    assert nothing_waits(broker)
