"""What a dead letter tells, whoever wrote its headers."""

from __future__ import annotations

from typing import Any

import pytest

from bus.consuming.dead_letter import DeadLetter
from bus.message import Delivery
from bus.topology import MONGO_WRITER


def letter(**headers: Any) -> DeadLetter:
    delivery = Delivery(tag=1, body=b"", routing_key="room.1.x", redelivered=False, headers=headers)
    return DeadLetter(MONGO_WRITER, delivery)


@pytest.mark.parametrize(
    "deaths", ["", "evil", 7, [], ["evil"], [None], {}, [{}], [{"routing-keys": 7}]]
)
def test_a_note_that_the_broker_did_not_write_is_passed_over(deaths: Any) -> None:
    dead = letter(**{"x-death": deaths})
    assert (dead.reason, dead.time, dead.routing_key) == ("unknown", None, "room.1.x")
    message = dead.to_message()
    assert message.headers == {"x-routing-key": "room.1.x", "x-redriven": 1}


def test_the_brokers_note_tells_reason_and_first_routing_key() -> None:
    note = {"reason": "expired", "routing-keys": ["room.1.first"], "count": 1}
    dead = letter(**{"x-death": [note, {"reason": "rejected"}], "x-redriven": "many"})
    assert (dead.reason, dead.routing_key, dead.redriven) == ("expired", "room.1.first", 0)
