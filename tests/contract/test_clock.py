"""Ids of processes whose clocks differ, or are set back, are in one order."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from bus import events
from tests.conftest import fail_or_skip
from tests.support.clock import FakeClock
from tests.support.command import chatbus
from tests.support.servers import MariaDB, ServerMissing

MAKE_IDS = """
import sys
from bus import events
from webapp.project import setup
setup()
for _ in sys.stdin:
    print(events.new_id(), flush=True)
"""
SETTINGS = {
    "SECRET_KEY": "only-for-tests" * 4,
    "TICKET_KEYS": f"test:{'k' * 32}",
    "BROKER_URL": "redis://127.0.0.1:1/0",
    "MONGO_URL": "mongodb://127.0.0.1:1/chat",
}
# Processes agree within the round trips of their readings, and the tests' clocks differ by more.
ROUND_TRIP = timedelta(seconds=1)
NewId = Callable[[], uuid.UUID]


@pytest.fixture(params=["sqlite", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of one with its tables."""
    if request.param == "mariadb":
        server: MariaDB = request.getfixturevalue("mariadb")
        url = server.fresh_database()
    else:
        url = f"sqlite:///{tmp_path}/database"
    migrated = chatbus("migrate", "--quiet", **SETTINGS, DATABASE_URL=url)
    assert migrated.returncode == 0, migrated.stderr
    return url


@pytest.fixture
def start(database: str) -> Iterator[Callable[[FakeClock], NewId]]:
    """Starts a process that has a clock and makes an id whenever it is asked."""
    with ExitStack() as running:

        def start_one(clock: FakeClock) -> NewId:
            process = running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", MAKE_IDS],
                    env=os.environ | SETTINGS | clock.environment | {"DATABASE_URL": database},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            assert process.stdin
            assert process.stdout
            running.callback(process.stdin.close)
            ask, answers = process.stdin, process.stdout

            def new_id() -> uuid.UUID:
                ask.write("\n")
                ask.flush()
                return uuid.UUID(answers.readline().strip())

            new_id()
            return new_id

        yield start_one


@pytest.fixture
def clocks(tmp_path: Path) -> Callable[[float], FakeClock]:
    def clock(seconds: float) -> FakeClock:
        try:
            return FakeClock(tmp_path, seconds)
        except ServerMissing as error:
            fail_or_skip(error)

    return clock


def steps_back(ids: Sequence[uuid.UUID]) -> timedelta:
    """The longest time by which an id is before the one made before it."""
    times = [events.time_of(each) for each in ids]
    return max(earlier - later for earlier, later in pairwise(times))


Start = Callable[[FakeClock], NewId]
Clocks = Callable[[float], FakeClock]


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_ids_of_machines_whose_clocks_differ_are_in_one_order(start: Start, clocks: Clocks) -> None:
    processes = [start(clocks(seconds)) for seconds in (0, -3, 120)]
    ids = [new_id() for _ in range(10) for new_id in processes]
    assert steps_back(ids) < ROUND_TRIP


def test_a_clock_that_is_set_back_puts_nothing_under_what_is_there(
    start: Start, clocks: Clocks
) -> None:
    """Neither in a process that runs nor in one that starts afterwards."""
    clock = clocks(0)
    running = start(clock)
    before = [running() for _ in range(10)]
    clock.set(-120)
    started = start(clock)
    after = [new_id() for _ in range(10) for new_id in (running, started)]
    assert steps_back(before + after) < ROUND_TRIP
