"""How far a consumer says that it has come: by when events were published, not by their own times.

``processed`` is where a backfill begins. Were it too late, the backfill would leave events out.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from bus import events
from bus.consuming.consumer_status import ConsumerStatus
from bus.consuming.in_flight import Unacked
from bus.events import MessagePosted
from bus.message import Delivery
from bus.topology import MONGO_WRITER
from tests.support.events import posted, posted_at

HOUR = 3_600
PAST, FUTURE = datetime(2004, 12, 25, tzinfo=UTC), datetime(2104, 12, 25, tzinfo=UTC)


def delivered(event: MessagePosted, headers: dict[str, Any], timestamp: Any) -> Delivery:
    return Delivery(
        tag=1,
        body=events.encode(event),
        routing_key="",
        redelivered=False,
        headers=headers,
        timestamp=timestamp,
    )


def unacked(event: MessagePosted, published: float) -> Unacked:
    return Unacked(delivered(event, {}, None), event, published)


@pytest.mark.parametrize("own_time", [PAST, FUTURE])
def test_what_was_accepted_is_processed_up_to_its_publishing(own_time: datetime) -> None:
    status = ConsumerStatus(MONGO_WRITER)
    published = time.time() - HOUR
    status.accepted([unacked(posted_at(own_time), published)], 0.1)
    assert status.processed == datetime.fromtimestamp(published, UTC)


@pytest.mark.parametrize("own_time", [PAST, FUTURE])
def test_what_is_in_flight_is_unprocessed_since_its_publishing(own_time: datetime) -> None:
    event = posted_at(own_time)
    message = events.to_message(event)
    delivery = delivered(event, dict(message.headers), message.timestamp)
    before = time.time() - 0.001
    status = ConsumerStatus(MONGO_WRITER)
    status.in_flight_since(events.published_at(delivery, event))
    assert status.processed
    assert before - 1 < status.processed.timestamp() <= time.time()


@pytest.mark.parametrize(
    ("headers", "timestamp", "expected"),
    [
        ({events.PUBLISHED_AT: "1700000000123"}, 5, 1_700_000_000.123),
        ({events.PUBLISHED_AT: "yesterday"}, 1_700_000_000, 1_700_000_000),
        ({}, 1_700_000_000, 1_700_000_000),
        ({}, None, PAST.timestamp()),
        ({}, "yesterday", PAST.timestamp()),
    ],
    ids=["header", "odd header", "another publisher's timestamp", "neither", "odd timestamp"],
)
def test_when_a_message_was_published(
    headers: dict[str, Any], timestamp: object, expected: float
) -> None:
    event = posted_at(PAST)
    assert events.published_at(delivered(event, headers, timestamp), event) == expected


@pytest.mark.parametrize(
    "odd", ["", "-1", "1" * 5_000, "9" * 14, 2**62, 10**400, -1, 0, 1.5, None, ["x"]]
)
def test_a_value_that_is_no_time_is_left_aside(odd: object) -> None:
    event = posted_at(PAST)
    delivery = delivered(event, {events.PUBLISHED_AT: odd}, odd)
    assert events.published_at(delivery, event) == PAST.timestamp()


def test_nothing_was_published_in_the_future() -> None:
    """Its publisher's clock is ahead: what waits behind it on the queue is not processed yet."""
    future = unacked(posted(), FUTURE.timestamp())
    status = ConsumerStatus(MONGO_WRITER)
    status.in_flight_since(future.published)
    assert status.processed
    assert status.processed <= datetime.now(UTC)
    status.accepted([future], 0.1)
    assert status.processed <= datetime.now(UTC)


def test_the_header_says_when_the_message_was_made() -> None:
    before = int(time.time() * 1_000)
    message = events.to_message(posted())
    after = int(time.time() * 1_000)
    assert before <= int(message.headers[events.PUBLISHED_AT]) <= after
    assert message.timestamp is not None
    assert before // 1_000 <= message.timestamp <= after // 1_000
