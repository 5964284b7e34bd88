"""Reading the archive: whole, or an error; never a part that looks whole."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from bus import events
from bus.errors import BrokerUnavailable
from bus.publishing import Publisher
from bus.topology import ARCHIVE, EVENT_QUEUES
from bus.transport import declare
from bus.transport.rabbitmq import stream
from bus.transport.rabbitmq.stream import StreamFeed, read_stream
from bus.transport.rabbitmq.subscription import RabbitSubscription
from tests.support.broker import depth
from tests.support.events import posted
from tests.support.freeze import frozen
from tests.support.rabbitmq import RabbitMQ
from tests.support.wait import patience, wait_until


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    """A broker with an empty archive."""
    url = rabbitmq.fresh_vhost()
    declare(url, [ARCHIVE, *EVENT_QUEUES])
    return url


def archive(url: str, number: int) -> list[str]:
    """The texts of ``number`` new messages in the archive."""
    bodies = [f"{n}" for n in range(number)]
    publisher = Publisher(url, [ARCHIVE, *EVENT_QUEUES])
    publisher.publish(*(events.to_message(posted(body)) for body in bodies))
    publisher.close()
    return bodies


def read(url: str, start: datetime | None = None) -> list[str]:
    batches = list(read_stream(url, ARCHIVE, start))
    return [events.decode(item.body).data.body for batch in batches for item in batch]  # type: ignore[union-attr]


def test_everything_comes_in_order(url: str) -> None:
    assert archive(url, 3_000) == read(url)


def test_how_much_was_read_is_known(url: str) -> None:
    archive(url, 3_000)
    with closing(StreamFeed(url, ARCHIVE, None, 1_000)) as feed:
        seen = [feed.fraction]
        while not feed.is_at_end:
            if batch := feed.receive(1_000, 0.5):
                feed.ack(batch)
                seen.append(feed.fraction)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert any(0 < fraction < 1 for fraction in seen)


def test_an_empty_archive_has_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ANSWER_SECONDS", patience(1.0))
    assert read(url) == []


def test_nothing_is_newer_than_the_future(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ANSWER_SECONDS", patience(1.0))
    archive(url, 10)
    assert read(url, datetime.now(UTC) + timedelta(hours=1)) == []


def test_a_reader_that_takes_its_time_is_not_a_broker_that_stalls(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BATCH", 100)
    archive(url, 1_000)
    batches = read_stream(url, ARCHIVE)
    read_first = len(next(batches))
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 60)
    monkeypatch.setattr(stream, "time", later)
    assert read_first + sum(map(len, batches)) == 1_000


def test_a_broker_that_stalls_is_not_the_end(
    rabbitmq: RabbitMQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "ANSWER_SECONDS", patience(1.0))
    monkeypatch.setattr(stream, "BATCH", 100)
    archive(url, 3_000)
    batches = read_stream(url, ARCHIVE)
    assert next(batches)
    with frozen(rabbitmq.pid), pytest.raises(BrokerUnavailable):
        list(batches)


def test_a_broker_that_stalls_at_once_does_not_have_nothing_newer(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(url, 10)
    wait_until(lambda: depth(url, ARCHIVE), what="the broker has counted them")
    monkeypatch.setattr(stream, "ANSWER_SECONDS", patience(1.0))
    start = datetime.now(UTC) - timedelta(hours=1)
    with closing(StreamFeed(url, ARCHIVE, start, prefetch=5)) as source:
        monkeypatch.setattr(RabbitSubscription, "receive", lambda self, limit, wait: [])
        with pytest.raises(BrokerUnavailable):
            wait_until(lambda: source.is_at_end or source.receive(1, 0.1))


def test_a_stream_of_which_nothing_comes_is_not_an_empty_one(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(url, 10)
    wait_until(lambda: depth(url, ARCHIVE), what="the broker has counted them")
    monkeypatch.setattr(RabbitSubscription, "receive", lambda self, limit, wait: [])
    with pytest.raises(BrokerUnavailable, match="holds events"):
        read(url)
