"""What stands on a room's channel, in the forms that bridges of this and other releases meet."""

from __future__ import annotations

import pytest

from bus.rooms.model import Position, Published

EVENT = b'{"type":"message.posted","data":{"body":"two words"}}'


def test_an_event_with_the_time_at_which_it_was_logged() -> None:
    published = Published.parse(b"e1 3@1700000000.250000 " + EVENT)
    assert published == Published(Position("e1", 3), EVENT, logged_at=1_700_000_000.25)


def test_a_redis_publisher_of_an_earlier_release_sends_no_time() -> None:
    assert Published.parse(b"e1 3 " + EVENT) == Published(Position("e1", 3), EVENT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        EVENT,
        b"e1 3",
        b"e1 three " + EVENT,
        b"e1 3@ " + EVENT,
        b"e1 3@noon " + EVENT,
        b"e1 3 1700000000.25 " + EVENT,
        b"e1 3@1700000000.25 new-field " + EVENT,
        b"\xff 3 " + EVENT,
    ],
)
def test_anything_else_is_refused_so_that_the_bridge_reads_the_log(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - from split, int, float or decode
        Published.parse(data)
