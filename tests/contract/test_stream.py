"""Reading the archive: whole, or an error; never a part that looks whole."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta

import pytest

from bus import events, stream
from bus.errors import BrokerUnavailable
from bus.publisher import Publisher
from bus.stream import read_stream
from bus.topology import ARCHIVE, EVENT_QUEUES
from tests.support.events import posted
from tests.support.rabbitmq import RabbitMQ


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    """A broker with an empty archive."""
    url = rabbitmq.fresh_vhost()
    archive(url, 0)
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


def test_an_empty_archive_has_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ANSWER_SECONDS", 1.0)
    assert read(url) == []


def test_nothing_is_newer_than_the_future(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ANSWER_SECONDS", 1.0)
    archive(url, 10)
    assert read(url, datetime.now(UTC) + timedelta(hours=1)) == []


def test_a_broker_that_stalls_is_not_the_end(
    rabbitmq: RabbitMQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(stream, "BATCH", 100)
    archive(url, 3_000)
    broker = rabbitmq.erlang_pid()
    batches = read_stream(url, ARCHIVE)
    assert next(batches)
    os.kill(broker, signal.SIGSTOP)
    try:
        with pytest.raises(BrokerUnavailable):
            list(batches)
    finally:
        os.kill(broker, signal.SIGCONT)
