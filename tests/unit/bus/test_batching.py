"""How a batch becomes calls: grouped by room, in bounded rounds that keep each room's order."""

from __future__ import annotations

import uuid

from bus.rooms import batching
from bus.rooms.batching import CALL_EVENTS, rounds
from tests.support.events import BOB, added, posted, removed

ROOMS = [uuid.UUID(int=number) for number in range(3)]


def test_the_events_of_a_room_share_a_call() -> None:
    batch = [posted(room_id=ROOMS[number % 3]) for number in range(7)]
    [calls] = rounds(batch)
    assert [call.room_id for call in calls] == ROOMS
    assert [call.positions for call in calls] == [[0, 3, 6], [1, 4], [2, 5]]
    assert calls[1].events[::3] == [str(batch[1].id), str(batch[4].id)]


def test_nothing_makes_no_round() -> None:
    assert list(rounds([])) == []


def test_a_full_call_ends_its_round() -> None:
    """Else what follows in the room would run although Redis has refused what came before."""
    batch = [posted(room_id=ROOMS[0]) for _ in range(CALL_EVENTS + 1)] + [posted(room_id=ROOMS[1])]
    first, second = rounds(batch)
    assert [len(call.positions) for call in first] == [CALL_EVENTS]
    assert [call.room_id for call in second] == ROOMS[:2]
    assert [call.positions for call in second] == [[CALL_EVENTS], [CALL_EVENTS + 1]]


def test_large_events_fill_a_call_sooner() -> None:
    count = batching.CALL_BYTES // 4_000 + 1
    sizes = [len(calls[0].positions) for calls in rounds([posted("x" * 4_000)] * count)]
    assert len(sizes) == 2
    assert sum(sizes) == count


def test_the_script_is_told_who_comes_and_goes() -> None:
    [[call]] = rounds([posted(), added(BOB), removed(BOB)])
    assert call.events[2::3] == ["", "+2", "-2"]
