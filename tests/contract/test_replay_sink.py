"""Replay into a sink that refuses some events, or cannot take any now."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
from msgspec.structs import replace

from bus import events
from bus.errors import StoreUnavailable
from bus.publishing import Publisher
from bus.topology import ARCHIVE, EVENT_QUEUES
from consumers.mongo_writer import MongoWriter, open_messages
from consumers.replay import STOPPED, Outcome, Selection, replay
from tests.support.consuming import bodies, publish
from tests.support.events import posted, posted_at
from tests.support.fail_point import TIMEOUT_MS, FailPoint
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import Secantus
from tests.support.wait import patience


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    """A broker with ten messages in the archive, two of them bad."""
    url = rabbitmq.fresh_vhost()
    texts = [f"bad {n}" if n in (3, 7) else f"{n}" for n in range(10)]
    publish(url, *map(posted, texts), queues=[*EVENT_QUEUES, ARCHIVE])
    return url


def test_what_a_sink_refuses_is_left_out_alone_and_named(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    stored: list[str] = []

    def store(batch: Sequence[events.Event]) -> None:
        if any(body.startswith("bad") for body in bodies(batch)):
            raise ValueError("will not take it")
        stored.extend(bodies(batch))

    outcome = replay(url, Selection(), "mongo_writer", store, Event())
    assert stored == ["0", "1", "2", "4", "5", "6", "8", "9"]
    assert outcome == Outcome(Counter({"message.posted": 8}), Counter({"message.posted": 2}), True)
    named = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len({record.event_id for record in named}) == 2  # type: ignore[attr-defined]


def test_what_was_imported_since_a_time_is_replayed_by_the_time_of_the_import(url: str) -> None:
    stored: list[str] = []

    def store(batch: Sequence[events.Event]) -> None:
        stored.extend(bodies(batch))

    recently = datetime.now(UTC) - timedelta(hours=1)
    publish(url, posted_at(datetime(2004, 12, 25, tzinfo=UTC)), queues=[])
    replay(url, Selection(start=recently), "mongo_writer", store, Event())
    assert len(stored) == 10
    assert "imported" not in stored
    replay(url, Selection(archived=recently), "mongo_writer", store, Event())
    assert stored[10:] == [*stored[:10], "imported"]


def test_a_sink_that_is_away_ends_it(url: str) -> None:
    def store(batch: Sequence[events.Event]) -> None:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        replay(url, Selection(), "mongo_writer", store, Event())


def test_a_stop_ends_it_after_the_batch_and_the_count_is_of_what_was_stored(url: str) -> None:
    stop = Event()

    def store(batch: Sequence[events.Event]) -> None:
        stop.set()

    publish(url, *map(posted, map(str, range(2_000))), queues=[])
    outcome = replay(url, Selection(), "mongo_writer", store, stop)
    assert not outcome.is_whole
    assert 0 < outcome.replayed.total() < 2_010


def test_what_cannot_be_read_is_named_by_offset_and_id(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = replace(events.to_message(posted()), body=b"{", message_id="bad-one")
    with closing(Publisher(url)) as publisher:
        publisher.publish(bad, timeout=30)
    outcome = replay(url, Selection(), "mongo_writer", lambda batch: None, Event())
    assert outcome.replayed.total() == 10
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("skipped offset 10 of the archive, id bad-one: ")


STOPPED_BY_ITS_SINK = """
import signal, sys
from consumers import mongo_writer
from deploy.cli import main
from tests.support.wait import patience
from tests.support.wait import patience

class Sink:
    signals = iter([signal.SIGTERM])

    def store(self, batch):
        for number in self.signals:
            signal.raise_signal(number)

mongo_writer.open_sink = lambda environment, stack: Sink()
sys.exit(main(["replay", "--into", "mongo_writer"]))
"""


def test_sigterm_ends_the_command_with_a_summary(url: str) -> None:
    publish(url, *map(posted, map(str, range(10_000))), queues=[])
    finished = subprocess.run(
        [sys.executable, "-c", STOPPED_BY_ITS_SINK],
        env=os.environ | {"BROKER_URL": url},
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
    )
    assert finished.returncode == STOPPED, finished.stderr
    first, _, last = finished.stdout.splitlines()
    assert 0 < int(first.removesuffix(" events replayed").replace(",", "")) < 10_010
    assert last.startswith("stopped before the end of the archive")


def test_after_a_fault_of_mongodb_another_replay_stores_what_is_missing(
    url: str, secantus: Secantus, fail_point: FailPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.mongo_writer.TIMEOUT_MS", TIMEOUT_MS)
    messages = open_messages(secantus.fresh_database())
    with closing(messages.database.client):
        store = MongoWriter(messages).store
        fail_point.arm("insert", {"skip": 0}, "not primary")
        with pytest.raises(StoreUnavailable):
            replay(url, Selection(), "mongo_writer", store, Event())
        assert messages.count_documents({}) == 0
        fail_point.off()
        replay(url, Selection(), "mongo_writer", store, Event())
        assert messages.count_documents({}) == 10
