"""Presence and typing of very many rooms, by a clock that skips the waiting."""

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
    """Time jumps to the next timer when nothing else is to be done."""

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
    """``count`` rooms without users."""

    def __init__(self, count: int = ROOMS) -> None:
        self._ids = [uuid.UUID(int=number) for number in range(count)]
        self.changed: set[uuid.UUID] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self) -> list[uuid.UUID]:
        return list(self._ids)

    def get(self, room_id: uuid.UUID) -> None:
        return None


class Published:
    """A Redis that answers after a while, and when each room was published."""

    def __init__(self) -> None:
        self.present: defaultdict[uuid.UUID, list[float]] = defaultdict(list)
        self.typing: list[float] = []
        self.on_publish: Callable[[], None] | None = None

    async def publish_presence(self, rooms: Sequence[LocalPresence]) -> None:
        await asyncio.sleep(ANSWER_SECONDS)
        if self.on_publish:
            self.on_publish()
        for room in rooms:
            self.present[room.room_id].append(asyncio.get_running_loop().time())

    async def publish_typing(self, rooms: Iterable[tuple[uuid.UUID, Sequence[UserRef]]]) -> None:
        await asyncio.sleep(ANSWER_SECONDS)
        self.typing.append(asyncio.get_running_loop().time())


def test_all_rooms_are_published_in_time_and_typing_does_not_wait_for_them() -> None:
    async def play() -> tuple[Published, float]:
        published, hub, loop = Published(), Hub(), asyncio.get_running_loop()
        reporter = PresenceReporter(hub, published)  # type: ignore[arg-type]
        work = asyncio.create_task(reporter.run())
        await asyncio.sleep(30)
        hub.changed |= set(hub.ids())  # all users reconnect
        await asyncio.sleep(2.5)
        typed = loop.time()
        reporter.typing(hub.ids()[0], 1, "alice")
        await asyncio.sleep(60)
        work.cancel()
        assert not hub.changed
        return published, typed

    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        published, typed = runner.run(play())
    assert len(published.present) == ROOMS
    gaps = [b - a for times in published.present.values() for a, b in pairwise(times)]
    assert max(gaps) < LIFE_SECONDS - TURN_SECONDS
    assert min(gaps) >= TURN_SECONDS
    assert len(published.typing) == 1
    assert published.typing[0] - typed < TURN_SECONDS + 0.1


def test_a_room_that_changes_while_it_is_published_is_published_again() -> None:
    async def play() -> list[float]:
        published, hub = Published(), Hub(1)

        def leave() -> None:
            published.on_publish = None
            hub.changed.update(hub.ids())

        published.on_publish = leave
        work = asyncio.create_task(PresenceReporter(hub, published).run())  # type: ignore[arg-type]
        await asyncio.sleep(2.5 * TURN_SECONDS)
        work.cancel()
        (times,) = published.present.values()
        return times

    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        times = runner.run(play())
    assert [round(time) for time in times] == [1, 1, 2]
