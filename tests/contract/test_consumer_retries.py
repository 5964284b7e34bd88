"""Failures of a sink: what waits, what goes on, and what ends among the dead letters."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY

from bus import events
from bus.consuming import in_flight
from bus.errors import StoreUnavailable
from bus.events import Event
from bus.runtime.backoff import Backoff
from bus.runtime.trace import child_of, trace_id_of
from bus.topology import MONGO_WRITER, REDIS_PUBLISHER
from bus.transport import subscribe
from tests.support.broker import depth, empty
from tests.support.consuming import ListSink, bodies, consuming, dead_letters, publish
from tests.support.events import posted, posted_at
from tests.support.wait import patience, wait_until

OTHER_ROOM = uuid.UUID(int=2)


@pytest.fixture
def url(broker_url: str) -> str:
    empty(broker_url)
    return broker_url


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses a hundredth as long."""
    monkeypatch.setattr(in_flight, "FIRST_PAUSE", in_flight.FIRST_PAUSE / 100)
    monkeypatch.setattr(in_flight, "LONGEST_PAUSE", in_flight.LONGEST_PAUSE / 100)
    monkeypatch.setattr(in_flight, "Backoff", lambda: Backoff(0.001, 0.1))


class Gate:
    """Lets a sink fail for certain texts, or all, until it is opened."""

    def __init__(self, *bad: str) -> None:
        self.bad = set(bad)
        self.failures = 0
        self.is_down = False

    def __call__(self, batch: Sequence[Event]) -> None:
        if self.is_down or self.bad & set(bodies(batch)):
            self.failures += 1
            raise StoreUnavailable("MongoDB: not now")


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"chatbus_{name}", labels) or 0.0


@pytest.mark.usefixtures("hurried")
def test_one_event_that_always_fails_is_a_dead_letter_and_the_others_are_not_held_up(
    url: str,
) -> None:
    sink = ListSink(Gate("bad"))
    publish(url, *(posted(body) for body in ["before", "bad", "after"]))
    with consuming(url, sink):
        wait_until(lambda: {"before", "after"} <= set(sink.bodies))
        later = [f"later {number}" for number in range(60)]
        for body in later:
            publish(url, posted(body))
            wait_until(lambda body=body: body in sink.bodies)  # type: ignore[misc]
            if depth(url, MONGO_WRITER.dead_letters):
                break
        [letter] = dead_letters(url, 1)
    assert events.decode(letter.body).data.body == "bad"  # type: ignore[union-attr]
    assert letter.headers["x-reason"] == "retries_exhausted"
    assert letter.headers["x-attempts"] == in_flight.ATTEMPTS
    assert "not now" in letter.headers["x-exception"]
    assert letter.headers["x-consumer"] == MONGO_WRITER.name
    assert letter.headers["x-routing-key"].endswith(".message.posted")
    assert letter.headers["x-time"]
    assert sorted(sink.bodies) == sorted(set(sink.bodies)), "none was given twice"
    assert depth(url, MONGO_WRITER) == 0


@pytest.mark.usefixtures("hurried")
def test_a_sink_that_is_down_long_makes_no_dead_letters(url: str) -> None:
    gate = Gate()
    gate.is_down = True
    sent = [f"{number}" for number in range(300)]
    publish(url, *map(posted, sent))
    sink = ListSink(gate)
    with consuming(url, sink, batch=50, queue=REDIS_PUBLISHER) as consumer:
        wait_until(lambda: gate.failures > 10 * in_flight.ATTEMPTS, what="many failures")
        assert consumer.status() == "sink: MongoDB: not now"
        assert sink.bodies == []
        gate.is_down = False
        wait_until(lambda: len(sink.bodies) >= len(sent))
        wait_until(lambda: consumer.status() == "ok")
    assert sink.bodies == sent
    assert depth(url, REDIS_PUBLISHER.dead_letters) == 0


@pytest.mark.usefixtures("hurried")
def test_a_room_waits_in_order_while_the_others_go_on(url: str) -> None:
    gate = Gate("a1")
    sink = ListSink(gate)
    publish(url, posted("a1"), posted("b1", OTHER_ROOM), posted("a2"), posted("b2", OTHER_ROOM))
    with consuming(url, sink, queue=REDIS_PUBLISHER):
        wait_until(lambda: sink.bodies == ["b1", "b2"])
        publish(url, posted("a3"), posted("b3", OTHER_ROOM))
        wait_until(lambda: sink.bodies == ["b1", "b2", "b3"])
        gate.bad.clear()
        wait_until(lambda: len(sink.bodies) == 6)
    assert sink.bodies == ["b1", "b2", "b3", "a1", "a2", "a3"]
    assert depth(url, REDIS_PUBLISHER.dead_letters) == 0


def test_what_was_acknowledged_ahead_of_others_does_not_come_again(url: str) -> None:
    publish(url, *(posted(f"{number}") for number in range(6)))
    with closing(subscribe(url, MONGO_WRITER, prefetch=10)) as source:
        taken = []
        wait_until(lambda: taken.extend(source.receive(10, 0.1)) or len(taken) == 6)
        for chosen in ([4, 2], [0], [5]):
            source.ack([taken[position] for position in chosen])
    sink = ListSink()
    with consuming(url, sink):
        wait_until(lambda: len(sink.bodies) >= 2)
    assert sink.bodies == ["1", "3"]


def test_poison_of_one_percent_costs_few_calls(url: str) -> None:
    sent = [f"{number}" for number in range(500)]
    poison = sent[50::100]

    def fail(batch: Sequence[Event]) -> None:
        if set(poison) & set(bodies(batch)):
            raise ValueError("cannot digest this")

    publish(url, *map(posted, sent))
    sink = ListSink(fail)
    with consuming(url, sink, batch=500):
        letters = dead_letters(url, len(poison))
        wait_until(lambda: len(sink.bodies) >= len(sent) - len(poison))
    assert sink.bodies == [body for body in sent if body not in poison]
    assert [events.decode(letter.body).data.body for letter in letters] == poison  # type: ignore[union-attr]
    assert {letter.headers["x-reason"] for letter in letters} == {"refused_by_sink"}
    assert {letter.headers["x-attempts"] for letter in letters} == {1}
    assert sink.calls < 150


def test_metrics_count_what_happened(url: str) -> None:
    labels = {"queue": MONGO_WRITER.name}

    def counts() -> list[float]:
        return [
            metric("consumed_messages_total", **labels),
            metric("batch_messages_sum", **labels),
            metric("sink_seconds_count", **labels),
            metric("event_seconds_count", **labels),
            metric("dead_lettered_messages_total", reason="refused_by_sink", **labels),
        ]

    def fail(batch: Sequence[Event]) -> None:
        if "poison" in bodies(batch):
            raise ValueError("no")

    before = counts()
    sink = ListSink(fail)
    publish(url, *map(posted, ["1", "2", "poison"]))
    with consuming(url, sink):
        dead_letters(url, 1)
        wait_until(lambda: len(sink.bodies) == 2)
        wait_until(lambda: metric("oldest_unprocessed_seconds", **labels) == 0.0)
    consumed, in_batches, stored, timed, dead = (
        now - then for now, then in zip(counts(), before, strict=True)
    )
    assert (consumed, in_batches, dead) == (2, 2, 1)
    assert stored == timed == len(sink.batches)


def test_the_oldest_event_grows_old_while_the_sink_is_down(url: str) -> None:
    gate = Gate()
    gate.is_down = True
    publish(url, posted())

    def age() -> float:
        return metric("oldest_unprocessed_seconds", queue=MONGO_WRITER.name)

    retried = metric("retried_messages_total", queue=MONGO_WRITER.name)
    with consuming(url, ListSink(gate)):
        wait_until(lambda: gate.failures > 1)
        wait_until(lambda: age() > 1.5, what="an old event")
        gate.is_down = False
        wait_until(lambda: age() == 0.0, what="nothing old")
    assert metric("retried_messages_total", queue=MONGO_WRITER.name) - retried >= 2


def test_an_imported_message_is_as_old_as_its_publishing(url: str) -> None:
    labels = {"queue": MONGO_WRITER.name}
    gate = Gate()
    gate.is_down = True
    seconds = metric("event_seconds_sum", **labels)
    began = time.monotonic()
    publish(url, posted_at(datetime(2004, 12, 25, tzinfo=UTC)))
    with consuming(url, ListSink(gate)):
        wait_until(lambda: gate.failures > 1)
        assert 0 < metric("oldest_unprocessed_seconds", **labels) <= time.monotonic() - began + 1
        gate.is_down = False
        wait_until(lambda: metric("oldest_unprocessed_seconds", **labels) == 0.0)
    assert 0 < metric("event_seconds_sum", **labels) - seconds <= time.monotonic() - began + 1


def test_each_message_is_a_debug_record_with_its_ids(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="bus.consuming.consumer")
    event = posted()
    traceparent = child_of(None)
    from bus.publishing import Publisher

    with closing(Publisher(url)) as publisher:
        publisher.publish(events.to_message(event, traceparent))
    sink = ListSink()
    with consuming(url, sink):
        wait_until(lambda: sink.bodies)
    [record] = [record for record in caplog.records if record.levelno == logging.DEBUG]
    assert record.event_id == str(event.id)  # type: ignore[attr-defined]
    assert record.room_id == str(event.room_id)  # type: ignore[attr-defined]
    assert record.trace_id == trace_id_of(traceparent)  # type: ignore[attr-defined]


def test_two_consumers_share_a_queue_and_lose_nothing(url: str) -> None:
    sent = [f"{number}" for number in range(2_000)]
    meeting = threading.Barrier(2, timeout=patience(20))
    sinks = []
    for _ in range(2):
        first = iter([meeting.wait])

        def fail(batch: Sequence[Event], first=first) -> None:  # type: ignore[no-untyped-def]
            """Both have something in hand at the same time."""
            for meet in first:
                meet()

        sinks.append(ListSink(fail))
    with (
        consuming(url, sinks[0], batch=50, instance="1"),
        consuming(url, sinks[1], batch=50, instance="2"),
    ):
        publish(url, *map(posted, sent))
        wait_until(lambda: sum(len(sink.bodies) for sink in sinks) >= len(sent))
    assert all(sink.bodies for sink in sinks)
    assert sorted(sinks[0].bodies + sinks[1].bodies) == sorted(sent)
