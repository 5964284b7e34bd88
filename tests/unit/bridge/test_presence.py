"""Presence and typing of very many rooms, by a clock that jumps over what is only waited."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from bridge.hub.presence import TURN_SECONDS, PresenceReporter
from bus.rooms.presence import LIFE_SECONDS, LocalPresence, UserRef

ROOMS = 20_000
ANSWER_SECONDS = 0.001


class QuickLoop(asyncio.SelectorEventLoop):
    """Time passes at once when everybody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self._now = max(self._now, self._scheduled[0].when())
        super()._run_once()


class Hub:
    """As many as that, in which nobody is."""

    def __init__(self, count: int = ROOMS) -> None:
        self._ids = [uuid.UUID(int=number) for number in range(count)]
        self.changed: set[uuid.UUID] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self) -> list[uuid.UUID]:
        return list(self._ids)

    def get(self, room_id: uuid.UUID) -> None:
        return None


class Told:
    """A Redis that answers after a while, and when it was told of each room."""

    def __init__(self) -> None:
        self.present: defaultdict[uuid.UUID, list[float]] = defaultdict(list)
        self.typing: list[float] = []
        self.meanwhile: Callable[[], None] | None = None

    async def publish_presence(self, rooms: Sequence[LocalPresence]) -> None:
        await asyncio.sleep(ANSWER_SECONDS)
        if self.meanwhile:
            self.meanwhile()
        for room in rooms:
            self.present[room.room_id].append(asyncio.get_running_loop().time())

    async def publish_typing(self, rooms: Iterable[tuple[uuid.UUID, Sequence[UserRef]]]) -> None:
        await asyncio.sleep(ANSWER_SECONDS)
        self.typing.append(asyncio.get_running_loop().time())


def test_all_rooms_are_told_in_time_and_typing_does_not_wait_for_them() -> None:
    async def play() -> tuple[Told, float]:
        told, rooms, loop = Told(), Hub(), asyncio.get_running_loop()
        asides = PresenceReporter(rooms, told)  # type: ignore[arg-type]
        work = asyncio.create_task(asides.keep_up())
        await asyncio.sleep(30)
        rooms.changed |= set(rooms.ids())  # everybody comes back
        await asyncio.sleep(2.5)
        typed = loop.time()
        asides.typing(rooms.ids()[0], 1, "alice")
        await asyncio.sleep(60)
        work.cancel()
        assert not rooms.changed
        return told, typed

    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        told, typed = runner.run(play())
    assert len(told.present) == ROOMS
    gaps = [b - a for times in told.present.values() for a, b in pairwise(times)]
    assert max(gaps) < LIFE_SECONDS - TURN_SECONDS
    assert min(gaps) >= TURN_SECONDS
    assert len(told.typing) == 1
    assert told.typing[0] - typed < TURN_SECONDS + 0.1


def test_who_goes_while_the_room_is_being_told_of_is_told_of_again() -> None:
    async def play() -> list[float]:
        told, rooms = Told(), Hub(1)

        def leave() -> None:
            told.meanwhile = None
            rooms.changed.update(rooms.ids())

        told.meanwhile = leave
        work = asyncio.create_task(PresenceReporter(rooms, told).keep_up())  # type: ignore[arg-type]
        await asyncio.sleep(2.5 * TURN_SECONDS)
        work.cancel()
        (times,) = told.present.values()
        return times

    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        times = runner.run(play())
    assert [round(time) for time in times] == [1, 1, 2]
