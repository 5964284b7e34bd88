"""What `chatbus status` makes of two snapshots."""

from __future__ import annotations

import argparse
import re

import pytest

from bus.errors import SettingError
from bus.runtime.settings import Environment
from deploy.commands import status
from deploy.inspect.probe import look, targets_of
from deploy.inspect.report import ProcessSample, QueueSample, Snapshot, StoreSample, compare
from deploy.inspect.status_view import lines
from tests.support.ports import HOST, free_port

QUEUE = "chat.mongo_writer"


def consumer(settled: float, *, started: float = 1.0, number: int = 1, **fields) -> ProcessSample:
    return ProcessSample(
        name="mongo_writer",
        address=f"10.0.0.{number}:9000",
        started=started,
        subscriptions={QUEUE: 1},
        settled={QUEUE: settled},
        **fields,
    )


def snapshot(time: float, waiting: int | None, *processes: ProcessSample, **queue) -> Snapshot:
    sample = QueueSample(name=QUEUE, waiting=waiting, consumers=len(processes), dead_letters=0)
    sample = QueueSample(
        **{name: getattr(sample, name) for name in sample.__struct_fields__} | queue
    )
    return Snapshot(time=time, queues=(sample,), processes=processes)


def test_rates_come_from_what_was_settled_and_how_the_queue_grew():
    before = snapshot(100.0, 50, consumer(1_000))
    after = snapshot(102.0, 90, consumer(1_060))
    [queue] = compare(before, after).queues
    assert queue.out_rate == 30
    assert queue.in_rate == 50
    assert queue.unknown is None


def test_consumers_are_added_up_and_a_restarted_one_began_at_zero():
    before = snapshot(0.0, 0, consumer(500), consumer(500, number=2))
    after = snapshot(10.0, 0, consumer(600), consumer(40, number=2, started=5.0))
    [queue] = compare(before, after).queues
    assert queue.out_rate == (100 + 40) / 10


def test_a_consumer_that_was_not_asked_makes_the_rates_unknown():
    before = snapshot(0.0, 0, consumer(1), consumers=2)
    after = snapshot(1.0, 0, consumer(9), consumers=2)
    report = compare(before, after)
    assert report.queues[0].in_rate is None
    assert report.queues[0].out_rate is None
    assert report.queues[0].unknown == "1 of 2 consumers are in OPS_TARGETS"
    assert re.search(rf"{QUEUE} +0 +\? +\? +2", "\n".join(lines(report)))


def test_on_redis_which_counts_no_consumers_the_known_ones_are_all():
    before = snapshot(0.0, 0, consumer(1), consumers=None)
    after = snapshot(1.0, 0, consumer(9), consumers=None)
    assert compare(before, after).queues[0].out_rate == 8


def test_the_oldest_age_is_the_highest_of_the_consumers_and_zero_when_nothing_waits():
    processes = (consumer(1, oldest={QUEUE: 3.0}), consumer(1, number=2, oldest={QUEUE: 7.5}))
    assert compare(snapshot(0, 5), snapshot(1, 5, *processes)).queues[0].oldest_seconds == 7.5
    assert compare(snapshot(0, 0), snapshot(1, 0)).queues[0].oldest_seconds == 0
    assert compare(snapshot(0, 5), snapshot(1, 5)).queues[0].oldest_seconds is None


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (snapshot(1, None, consumer(0)), "chat.mongo_writer is missing"),
        (snapshot(1, 4), "chat.mongo_writer has no consumer"),
        (snapshot(1, 0, consumer(0), dead_letters=2), "2 dead letters"),
        (snapshot(1, 0, consumer(0, problem="refused")), "10.0.0.1:9000: refused"),
        (snapshot(1, 0, consumer(0, checks={"sink": "timeout"})), "sink is timeout"),
        (
            Snapshot(time=1, stores=(StoreSample(name="MONGO_URL", problem="no answer"),)),
            "MONGO_URL: no answer",
        ),
    ],
)
def test_what_is_wrong_is_said(after: Snapshot, problem: str):
    report = compare(Snapshot(time=0), after)
    assert [line for line in report.problems if problem in line], report.problems
    assert "1 problem" in list(lines(report))[-1]


@pytest.mark.parametrize(
    "after",
    [
        snapshot(1, 0, consumer(0, checks={"broker": "ok", "consumer": "paused"})),
        snapshot(1, 9, paused=True),
        Snapshot(time=1, stores=(StoreSample(name="X", problem="not set", configured=False),)),
        Snapshot(time=1, queues=(QueueSample(name="web.requests", waiting=None),)),
    ],
)
def test_what_is_meant_so_is_no_problem(after: Snapshot):
    assert not compare(Snapshot(time=0), after).problems


@pytest.mark.parametrize("word", ["web", "web=host", "=host:1", "web=host:x", "web=:1"])
def test_targets_that_cannot_be_read_are_refused(word: str):
    with pytest.raises(SettingError, match=r"OPS_TARGETS.*name=host:port"):
        targets_of(Environment({"OPS_TARGETS": word}))


def test_nothing_that_is_away_holds_up_the_rest():
    port = free_port()
    urls = {
        "DATABASE_URL": f"mysql://u:p@{HOST}:{port}/x",
        "BROKER_URL": f"amqp://{HOST}:{port}/",
        "REDIS_URL": f"redis://{HOST}:{port}/0",
    }
    environment = Environment({**urls, "OPS_TARGETS": f"web={HOST}:{port}"})
    seen = look(environment, targets_of(environment))
    problems = {store.name: store.problem for store in seen.stores}
    assert all(problems[name] for name in urls)
    assert problems["MONGO_URL"] == "not set"
    assert seen.processes[0].problem


def test_a_consumer_that_did_not_answer_the_first_time_makes_the_rates_unknown():
    silent = ProcessSample(name="mongo_writer", address="10.0.0.1:9000", problem="no answer")
    before = snapshot(100.0, 0, silent)
    after = snapshot(101.0, 0, consumer(1_000_000))
    [queue] = compare(before, after).queues
    assert (queue.in_rate, queue.out_rate) == (None, None)
    assert queue.unknown == "asked once only"


@pytest.mark.parametrize("consumers", [None, 1])
def test_a_consumer_that_does_not_answer_now_makes_the_rates_unknown(consumers: int | None):
    silent = ProcessSample(name="mongo_writer", address="10.0.0.2:9000", problem="no answer")
    before = snapshot(100.0, 0, consumer(0), consumer(0, number=2), consumers=consumers)
    after = snapshot(101.0, 0, consumer(9), silent, consumers=consumers)
    [queue] = compare(before, after).queues
    assert queue.out_rate is None
    assert queue.unknown == "10.0.0.2:9000 does not answer"


def test_what_fails_is_shown_of_a_paused_consumer_too():
    failing = consumer(0, checks={"queue": "paused", "sink": "timeout"})
    assert "sink: timeout" in "\n".join(lines(compare(Snapshot(time=0), snapshot(1, 0, failing))))


def test_bridges_show_their_sockets():
    bridge = ProcessSample(name="bridge", address="10.0.0.1:9000", sockets=1_204, rooms=80)
    shown = "\n".join(lines(compare(Snapshot(time=0), snapshot(1, 0, bridge))))
    assert "ready; sockets: 1,204, rooms: 80" in shown


def test_nothing_to_look_at_is_not_well():
    arguments = argparse.Namespace(watch=False, interval=None, json=False)
    with pytest.raises(SettingError, match="--data DIR"):
        status.run(arguments, Environment({}))


@pytest.mark.parametrize(
    ("name", "url", "problem"),
    [
        ("DATABASE_URL", "nix", "does not start with one of sqlite://, mysql://"),
        ("BROKER_URL", "amqp://h:abc/", "names no host"),
        ("MONGO_URL", "mongodb://u:p:q@h/", "must be escaped"),
    ],
)
def test_a_url_that_cannot_be_read_is_named_once(name: str, url: str, problem: str):
    stores = {store.name: store for store in look(Environment({name: url}), []).stores}
    assert stores[name].problem is not None
    assert problem in stores[name].problem
    assert name not in stores[name].problem
