"""Replay into a sink that refuses some events, or cannot take any now."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from bus.errors import StoreUnavailable
from bus.events import Event
from bus.topology import ARCHIVE, EVENT_QUEUES
from consumers.replay import Selection, replay
from tests.support.consuming import bodies, publish
from tests.support.events import posted
from tests.support.rabbitmq import RabbitMQ

EVERYTHING = Selection(None, None, None)


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

    def store(batch: Sequence[Event]) -> None:
        if any(body.startswith("bad") for body in bodies(batch)):
            raise ValueError("will not take it")
        stored.extend(bodies(batch))

    replayed, refused = replay(url, EVERYTHING, "mongo_writer", store)
    assert stored == ["0", "1", "2", "4", "5", "6", "8", "9"]
    assert (replayed, refused) == ({"message.posted": 8}, {"message.posted": 2})
    named = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len({record.event_id for record in named}) == 2  # type: ignore[attr-defined]


def test_a_sink_that_is_away_ends_it(url: str) -> None:
    def store(batch: Sequence[Event]) -> None:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        replay(url, EVERYTHING, "mongo_writer", store)
