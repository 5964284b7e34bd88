"""What a consumer tries next, without any broker or sink."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from bus import events
from bus.consuming.in_flight import ATTEMPTS, TRIES, InFlight, Unacked
from bus.errors import PermanentError, StoreUnavailable
from bus.message import Delivery
from tests.support.events import posted

OTHER_ROOM = uuid.UUID(int=2)


def item(body: str, room_id: uuid.UUID | None = None) -> Unacked:
    event = posted(body, room_id) if room_id else posted(body)
    delivery = Delivery(tag=body, body=events.encode(event), routing_key="", redelivered=False)
    return Unacked(delivery, event, event.time.timestamp())


class Trial:
    """Runs a hand against ``sink`` in a time of its own."""

    def __init__(self, hand: InFlight, sink: Callable[[list[str]], None]) -> None:
        self.hand = hand
        self.sink = sink
        self.now = 0.0
        self.calls = 0
        self.taken: list[str] = []
        self.buried: list[str] = []

    def run(self, seconds: float) -> None:
        """Until nothing is in hand, or for that time."""
        end = self.now + seconds
        while not self.hand.is_empty and self.now < end:
            pause = self.hand.wait(self.now)
            assert pause is not None
            self.now += pause
            if piece := self.hand.next(self.now):
                self.put(piece)

    def put(self, piece: list[Unacked]) -> None:
        tags = [item.delivery.tag for item in piece]
        self.calls += 1
        try:
            self.sink(tags)
        except StoreUnavailable:
            if self.hand.failed(piece, self.now):
                self.bury(piece[0])
        except PermanentError:
            if self.hand.refused(piece):
                self.bury(piece[0])
        else:
            self.taken += tags
            self.hand.accepted(piece)

    def bury(self, item: Unacked) -> None:
        self.buried.append(item.delivery.tag)
        self.hand.drop(item)


def failing(error: type[Exception], *bad: str) -> Callable[[list[str]], None]:
    def sink(tags: list[str]) -> None:
        if set(bad) & set(tags):
            raise error("no")

    return sink


def down(tags: list[str]) -> None:
    raise StoreUnavailable("down")


def test_all_in_hand_is_one_batch_and_never_more_than_the_limit() -> None:
    sizes: list[int] = []
    trial = Trial(InFlight(10, in_order=True), lambda tags: sizes.append(len(tags)))
    trial.hand.add(item(f"{n}") for n in range(25))
    trial.run(1)
    assert sizes == [10, 10, 5]
    assert trial.taken == [f"{n}" for n in range(25)]


@pytest.mark.parametrize(
    "poison", [["0"], ["499"], [f"{n}" for n in range(50, 500, 100)], ["7", "8"]]
)
def test_poison_is_found_in_few_calls_and_the_order_holds(poison: list[str]) -> None:
    trial = Trial(InFlight(500, in_order=True), failing(PermanentError, *poison))
    sent = [f"{n}" for n in range(500)]
    trial.hand.add(map(item, sent))
    trial.run(1)
    assert trial.buried == poison
    assert trial.taken == [tag for tag in sent if tag not in poison]
    assert trial.calls <= 1 + 20 * len(poison)


def test_a_sink_that_is_down_for_an_hour_costs_nobody_an_attempt() -> None:
    trial = Trial(InFlight(50, in_order=False), down)
    sent = [f"{n}" for n in range(120)]
    trial.hand.add(map(item, sent))
    trial.run(3_600)
    assert trial.hand.is_down()
    assert TRIES < trial.calls < 600
    began, trial.sink = trial.now, lambda tags: None
    trial.run(60)
    assert sorted(trial.taken) == sorted(sent)
    assert trial.now - began < 15
    assert not trial.buried


def test_a_sink_that_fails_half_of_the_time_buries_nothing() -> None:
    import random

    generator = random.Random(3)

    def flaky(tags: list[str]) -> None:
        if generator.random() < 0.5:
            raise StoreUnavailable("now and then")

    trial = Trial(InFlight(20, in_order=True), flaky)
    for number in range(100):
        trial.hand.add(item(f"{number}.{n}", uuid.UUID(int=n)) for n in range(20))
        trial.run(600)
    assert len(trial.taken) == 2_000
    assert not trial.buried


def test_what_fails_alone_is_exhausted_after_its_attempts_and_about_half_a_minute() -> None:
    trial = Trial(InFlight(50, in_order=True), failing(StoreUnavailable, "bad"))
    trial.hand.add([item("bad", OTHER_ROOM)])
    arrived = 0
    while not trial.buried and trial.now < 120:
        # Others keep arriving, ten a second.
        trial.hand.add([item(f"{arrived}")])
        arrived += 1
        trial.run(0.0001)
        while (piece := trial.hand.next(trial.now)) and not trial.buried:
            trial.put(piece)
        trial.now += 0.1
    assert trial.buried == ["bad"]
    assert 15 < trial.now < 60
    assert len(trial.taken) >= arrived - 2


def test_what_fails_alone_without_any_other_is_never_exhausted() -> None:
    trial = Trial(InFlight(50, in_order=True), failing(StoreUnavailable, "bad"))
    trial.hand.add([item("bad")])
    trial.run(3_600)
    assert trial.calls > ATTEMPTS
    assert not trial.buried


def test_an_event_waits_behind_a_failing_one_of_its_room_and_other_rooms_go_on() -> None:
    trial = Trial(InFlight(50, in_order=True), failing(StoreUnavailable, "a1"))
    trial.hand.add([item("a1"), item("b1", OTHER_ROOM), item("a2"), item("b2", OTHER_ROOM)])
    trial.run(5)
    trial.hand.add([item("a3"), item("b3", OTHER_ROOM)])
    trial.run(2)
    assert trial.taken == ["b1", "b2", "b3"]
    trial.sink = lambda tags: None
    trial.run(60)
    assert trial.taken == ["b1", "b2", "b3", "a1", "a2", "a3"]


def test_without_order_only_the_failing_one_waits() -> None:
    trial = Trial(InFlight(50, in_order=False), failing(StoreUnavailable, "a1"))
    trial.hand.add([item("a1"), item("a2"), item("a3")])
    trial.run(8)
    assert trial.taken == ["a2", "a3"]
