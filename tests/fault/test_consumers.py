"""Consumers that share a queue or stand by, and poison among the messages."""

from __future__ import annotations

from dataclasses import astuple

import pytest

from bus.topology import EVENT_QUEUES, MONGO_WRITER, REDIS_PUBLISHER
from tests.fault import poison
from tests.fault.form import Form
from tests.fault.system import System
from tests.support.freeze import frozen
from tests.support.load import Load
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(1_800)


def test_two_writers_share_a_queue_and_one_dies(system: System, load: Load) -> None:
    with system.second("mongo_writer"):
        wait_until(lambda: system.consumers(MONGO_WRITER) == 2, what="both consume")
        with frozen(system.stack.pid_of("mongo_writer")):
            load.wait_for_accepted()
            posted, stored = set(load.ledger.postings()), set(load.stored())
            load.wait_for_accepted()
            later = set(load.stored())
            assert stored < later, "the other one works"
            assert posted - later, "the frozen one has its share in hand"
            system.stack.kill("mongo_writer")
        wait_until(lambda: system.consumers(MONGO_WRITER) == 1, what="one is gone")
        load.wait_for_accepted()
    load.settle()


def test_a_standby_publisher_takes_over_and_hands_back(system: System, load: Load) -> None:
    with system.second("redis_publisher") as second:
        first, standby = by_role(system)
        system.kill("redis_publisher")
        active, restarted = by_role(system)
        assert (active, restarted != first) == (standby, True)
        load.wait_for_accepted()
        with frozen(second.pid):
            system.wait_until_holding(REDIS_PUBLISHER)
            second.kill()
        wait_until(lambda: system.subscriptions(REDIS_PUBLISHER) == {restarted: True})
    load.settle()


def by_role(system: System) -> tuple[str, str]:
    """The active consumer and the one that stands by, once there are both."""

    def both() -> list[str]:
        found = system.subscriptions(REDIS_PUBLISHER)
        roles = sorted(found, key=lambda channel: not found[channel])
        return roles if sorted(found.values()) == [False, True] else []

    active, standby = wait_until(both, what="one is active and one stands by")
    return active, standby


def test_one_percent_of_poison(system: System, form: Form) -> None:
    sent = []
    with system.load(rate=20) as load, system.connect() as connection:
        for _ in range(form.poison):
            load.wait_for_accepted(100)
            sent.append(poison.publish(connection, load.rooms[0]))
        load.settle()
    for queue in EVENT_QUEUES:
        expected = [(p.message_id, "invalid_event", queue.name) for p in sent if queue in p.queues]
        letters = [astuple(letter) for letter in system.dead_letters(queue)]
        assert sorted(letters) == sorted(expected)
