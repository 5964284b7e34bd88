"""The time line that all web processes share: in order whatever the clocks do."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from bus.errors import StoreUnavailable
from tests.unit.webapp.machine_time import MachineTime
from webapp.clock.database import Reading
from webapp.clock.shared import SECOND, SharedClock
from webapp.clock.timeline import SLOWER, Offset, Point, fitted, line_now

START = 1_700_000_000 * SECOND
MILLISECOND = SECOND // 1_000


class World:
    """True time, the database's clock, and the stored point; times in microseconds."""

    def __init__(self) -> None:
        self.true = START
        self.set_by = 0
        self.point: Point | None = None

    @property
    def wall(self) -> int:
        return self.true + self.set_by


@dataclass
class Process:
    """A process whose monotonic clock started at some time, and that reads with a delay."""

    world: World
    started: int
    offset: Offset | None = None

    def monotonic(self) -> int:
        return self.world.true - self.started

    @property
    def now(self) -> int:
        assert self.offset
        return self.monotonic() + self.offset.value

    def read(self, there: int = 0, back: int = 0) -> None:
        world = self.world
        sent = self.monotonic()
        world.true += there
        wall = world.wall
        line = line_now(world.point, self.offset, steady=wall, wall=wall, sent=sent)
        if world.point is None or world.point.time < line:
            world.point = Point(world.wall, line)
        world.true += back
        self.offset = fitted(self.offset, line, sent, self.monotonic())


def test_processes_agree_within_the_round_trip():
    world = World()
    one, other = Process(world, START - 5 * SECOND), Process(world, START - 7_000 * SECOND)
    for process in (one, other):
        process.read(there=3 * MILLISECOND, back=MILLISECOND)
    assert abs(one.now - other.now) <= 4 * MILLISECOND
    assert abs(one.now - world.wall) <= 2 * MILLISECOND


def test_a_slow_reading_moves_nothing():
    world = World()
    process = Process(world, START)
    process.read()
    process.read(there=20 * SECOND)
    process.read(back=20 * SECOND)
    assert process.now == world.wall


def test_the_time_line_does_not_go_back_with_the_databases_clock():
    world = World()
    old = Process(world, START - SECOND)
    old.read()
    world.true += 5 * SECOND
    world.set_by = -120 * SECOND
    old.read()
    new = Process(world, START)
    new.read()
    assert old.now == new.now
    assert 0 <= world.true - old.now <= 5 * SECOND // SLOWER


def test_a_process_that_starts_before_any_other_has_noticed_does_not_go_under_what_is_stored():
    world = World()
    Process(world, START).read()
    world.set_by = -120 * SECOND
    new = Process(world, START)
    new.read()
    assert new.now == START


def test_the_time_line_returns_to_the_databases_clock():
    world = World()
    process = Process(world, START)
    process.read()
    world.set_by = -1 * SECOND
    for _ in range(SLOWER // 5 + 1):
        before = process.now
        world.true += 5 * SECOND
        process.read(there=MILLISECOND, back=MILLISECOND)
        assert process.now > before
    assert process.now - world.wall <= 2 * MILLISECOND


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_clock_and_the_network_do_the_processes_agree(seed: int):
    """Also while it is set to and fro: once each has read again."""
    chance, world = random.Random(seed), World()
    processes = [Process(world, START - chance.randrange(10**12)) for _ in range(4)]
    slowest = 50 * MILLISECOND

    def read_all() -> None:
        for process in chance.sample(processes, len(processes)):
            there, back = (chance.randrange(slowest) for _ in "ab")
            before = process.offset and process.offset.least(process.monotonic())
            process.read(there, back)
            assert before is None or process.now >= before

    for _ in range(30):
        world.set_by += chance.choice([0, 0, 1, -1]) * chance.randrange(100 * SECOND)
        read_all()
        read_all()
        times = [process.now for process in processes]
        assert max(times) - min(times) <= 4 * slowest, "no more than round trips"
        assert min(times) >= world.wall - 2 * slowest
        world.true += 5 * SECOND


class Scripted(MachineTime):
    """The machine's clock, but set by ``skew`` and ``ahead``, or away."""

    def __init__(self, skew: float = 0, ahead: float = 0) -> None:
        self.skew, self.ahead = int(skew * SECOND), int(ahead * SECOND)
        self.is_away = False

    def read(self, offset: Offset | None) -> Reading:
        if self.is_away:
            raise StoreUnavailable("the database is away")
        now = super().read(offset)
        wall = now.wall - self.skew
        return Reading(wall, wall, wall + self.ahead, now.sent, now.received, now.local)


def test_until_the_database_has_been_read_there_is_no_time():
    source = Scripted()
    source.is_away = True
    with pytest.raises(StoreUnavailable, match="the database is away"):
        SharedClock(source).now_us()


def test_without_the_database_it_goes_on():
    source = Scripted(skew=3_600)
    clock = SharedClock(source)
    first = clock.now_us()
    source.is_away = True
    times = [first, *(clock.now_us() for _ in range(100))]
    assert times == sorted(times)
    assert abs(MachineTime().read(None).wall - times[-1] - 3_600 * SECOND) < 60 * SECOND


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (Scripted(), None),
        (Scripted(skew=1.5), None),
        (Scripted(skew=3), "this machine's clock is 3.0 s ahead of the database's"),
        (Scripted(skew=-90), "this machine's clock is 90.0 s behind the database's"),
        (Scripted(ahead=118), "new ids are 118.0 s ahead of the database's clock"),
    ],
)
def test_readiness_names_a_clock_that_is_wrong(settings, source: Scripted, problem: str | None):
    settings.CLOCK_SKEW = 2
    assert SharedClock(source).problem() == problem
