"""A room's decisions, without Redis and sockets: whatever comes in whatever order."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from bridge.hub.room import Room
from bridge.protocol import Encoded, Reason
from bus.rooms.model import Entry, Position, Published, Reading
from tests.support.frames import messages

ROOM = uuid.UUID(int=1)
ID = b"01890a5d-ac96-774b-bcce-b302099a8057"
EPOCH = "e1"
ALICE, BOB = 1, 2


def message(offset: int) -> bytes:
    return b'{"type":"message.posted","id":"%b","data":{"body":"%d"}}' % (ID, offset)


def removal(user_id: int) -> bytes:
    event = b'{"type":"member.removed","id":"%b","data":{"user":{"id":%d,"name":"u"}}}'
    return event % (ID, user_id)


def published(offset: int, event: bytes | None = None, epoch: str = EPOCH) -> Published:
    return Published(Position(epoch, offset), event or message(offset))


def reading(
    offset: int,
    entries: tuple[Entry, ...] = (),
    *,
    recovered: bool = True,
    removed: bool = False,
    epoch: str = EPOCH,
) -> Reading:
    return Reading(Position(epoch, offset), entries, recovered, removed, began=0.0)


def entries(*offsets: int) -> tuple[Entry, ...]:
    return tuple(Entry(offset, message(offset)) for offset in offsets)


class FakeSocket:
    """Keeps what it is sent: offsets of events, and other frames as words."""

    def __init__(self, user_id: int = ALICE) -> None:
        self.user_id = user_id
        self.user_name = f"user {user_id}"
        self.got: list[Any] = []

    def push(self, frames: Encoded) -> None:
        for frame in messages(frames):
            self.got.append(frame["offset"] if frame["type"] == "event" else frame["type"])
            last = frame.get("offset", 0)
            self.got += range(last + 1 - len(frame.get("events", ())), last + 1)

    def dropped(self, room_id: uuid.UUID, reason: Reason) -> None:
        assert room_id == ROOM
        self.got.append(reason)


def open_room(offset: int = 0) -> Room:
    room = Room(ROOM)
    room.catch_up(reading(offset, recovered=False), room.position)
    return room


def joined(room: Room, user_id: int = ALICE) -> FakeSocket:
    socket = FakeSocket(user_id)
    come_in(room, socket)
    assert socket.got == ["subscribed"]
    socket.got.clear()
    return socket


def come_in(room: Room, socket: FakeSocket, since: int | None = None) -> None:
    """Joins by a reading that has nothing new."""
    room.join(socket)
    assert room.position
    read = reading(room.position.offset)
    assert room.absorb(read, room.position)
    room.admit(socket, since=None if since is None else Position(EPOCH, since), reading=read)


def deliver(room: Room, *what: Published) -> bool:
    for item in what:
        room.publish(item)
    return room.advance(10**9)[1]


def lag() -> tuple[float, float]:
    """Sum and count of the bridge's lag."""
    names = ("chatbus_bridge_lag_seconds_sum", "chatbus_bridge_lag_seconds_count")
    total, count = (REGISTRY.get_sample_value(name) or 0.0 for name in names)
    return total, count


def test_an_event_lags_since_it_was_logged_however_old_it_is() -> None:
    """``ID`` is of 2023, as that of an imported message may be."""
    room = Room(ROOM)
    room.catch_up(reading(1, entries(1)), None)
    total, count = lag()
    room.publish(replace(published(2), logged_at=time.time() - 5))
    room.advance(1)
    assert lag()[1] == count + 1
    assert 5 <= lag()[0] - total < 3_600


def test_what_was_read_from_the_log_says_nothing_of_the_lag() -> None:
    room = Room(ROOM)
    room.catch_up(reading(1, entries(1)), None)
    before = lag()
    room.catch_up(reading(3, entries(2, 3)), room.position)
    room.advance(1_000)
    assert room.position == Position(EPOCH, 3)
    assert lag() == before


def test_the_next_offset_is_delivered() -> None:
    room = open_room(3)
    socket = joined(room)
    assert deliver(room, published(4), published(5))
    assert socket.got == [4, 5]


def test_what_is_known_is_ignored() -> None:
    room = open_room(3)
    socket = joined(room)
    assert deliver(room, published(3), published(4), published(4))
    assert socket.got == [4]


def test_what_comes_together_is_written_together() -> None:
    room = open_room(3)
    written: list[Encoded] = []
    socket = FakeSocket()
    socket.push = written.append  # type: ignore[method-assign]
    come_in(room, socket)
    written.clear()
    assert deliver(room, *(published(offset) for offset in range(4, 14)))
    assert [len(list(messages(frames))) for frames in written] == [10]


def test_a_turn_is_bounded() -> None:
    room = open_room()
    sockets = [joined(room) for _ in range(10)]
    for offset in range(1, 101):
        room.publish(published(offset))
    turns = 0
    while room.waiting:
        written, in_step = room.advance(5_000)
        assert in_step
        assert written < 7_000
        assert written >= 5_000 or not room.waiting
        turns += 1
    assert turns > 10
    for socket in sockets:
        assert socket.got == list(range(1, 101))


@pytest.mark.parametrize(
    "early", [published(5), published(1, epoch="e2"), published(4, epoch="e2")]
)
def test_a_gap_asks_for_a_catch_up_and_delivers_nothing(early: Published) -> None:
    room = open_room(3)
    socket = joined(room)
    assert not deliver(room, early)
    assert socket.got == []


def test_a_gap_keeps_nothing_back_that_came_before_it() -> None:
    room = open_room(3)
    socket = joined(room)
    assert not deliver(room, published(4), published(6))
    assert socket.got == [4]


def test_a_catch_up_delivers_what_was_missed_then_what_waited() -> None:
    room = open_room(3)
    socket = joined(room)
    room.catching_up = True
    assert deliver(room, *map(published, (5, 6, 7)))
    assert socket.got == []
    room.catch_up(reading(6, entries(4, 5, 6)), room.position)
    assert not room.catching_up
    assert deliver(room)
    assert socket.got == [4, 5, 6, 7]


def test_a_catch_up_that_left_a_gap_asks_for_another() -> None:
    room = open_room(3)
    socket = joined(room)
    room.catching_up = True
    room.publish(published(6))
    room.catch_up(reading(4, entries(4)), room.position)
    assert not deliver(room)
    assert socket.got == [4]


def test_a_catch_up_that_a_joiner_has_overtaken_repeats_nothing() -> None:
    room = open_room(3)
    socket = joined(room)
    room.catching_up = True
    room.join(FakeSocket())
    assert room.absorb(reading(5, entries(4, 5)), room.position)
    room.catch_up(reading(4, entries(4)), Position(EPOCH, 3))
    assert deliver(room)
    assert socket.got == [4, 5]
    room.catching_up = True
    room.catch_up(reading(5, entries(3, 4, 5), recovered=False), Position(EPOCH, 2))
    assert socket.got == [4, 5]


def test_a_log_that_went_back_sends_everybody_away() -> None:
    """A failover took back 4 and 5, and offsets are used again."""
    room = open_room(5)
    socket = joined(room)
    room.catching_up = True
    assert deliver(room, published(4), published(5))
    room.catch_up(reading(3, recovered=False), room.position)
    assert socket.got == ["resync"]
    come_in(room, socket)
    assert deliver(room, published(4), published(5))
    assert socket.got == ["resync", "subscribed", 4, 5]


def test_a_log_that_went_back_lets_nobody_in() -> None:
    room = open_room(5)
    room.join(FakeSocket())
    assert not room.absorb(reading(3, recovered=False), room.position)


def test_what_was_missed_is_delivered_by_turns() -> None:
    room = open_room()
    socket = joined(room)
    room.catching_up = True
    room.catch_up(reading(100, entries(*range(1, 101))), room.position)
    assert socket.got == []
    room.advance(1)
    assert socket.got == [1]
    assert deliver(room)
    assert socket.got == [*range(1, 101)]


def test_a_lost_part_sends_everybody_away() -> None:
    room = open_room(3)
    socket, joining = joined(room), FakeSocket()
    room.join(joining)
    room.catch_up(reading(20, entries(19, 20), recovered=False), room.position)
    assert socket.got == ["resync"]
    assert room.is_empty
    room.admit(joining, None, reading(20))
    assert joining.got == ["resync"]
    assert room.is_empty


def test_a_new_room_waits_for_its_position() -> None:
    room = Room(ROOM)
    socket = FakeSocket()
    room.join(socket)
    assert not room.opened.is_set()
    assert deliver(room, published(4), published(5))
    room.catch_up(reading(4, entries(3, 4), recovered=False), room.position)
    assert room.opened.is_set()
    read = reading(4)
    assert room.absorb(read, room.position)
    room.admit(socket, None, read)
    assert deliver(room)
    assert socket.got == ["subscribed", 3, 4, 5]


class TestComingBack:
    def test_what_the_room_has_is_not_read_again(self) -> None:
        room = Room(ROOM)
        room.join(FakeSocket())
        room.catch_up(reading(4, entries(3, 4), recovered=False), room.position)
        deliver(room, published(5))
        for since in (None, Position("other", 9), Position(EPOCH, 2), Position(EPOCH, 9)):
            assert room.wanted(since) == Position(EPOCH, 5)
        assert room.wanted(Position(EPOCH, 1)) == Position(EPOCH, 1)

    @pytest.mark.parametrize(
        ("since", "expected"),
        [(None, [3, 4, 5]), (2, [3, 4, 5]), (3, [4, 5]), (5, []), (9, [3, 4, 5])],
    )
    def test_everybody_gets_what_they_lack(self, since: int | None, expected: list[int]) -> None:
        room = Room(ROOM)
        room.join(FakeSocket())
        room.catch_up(reading(4, entries(3, 4), recovered=False), room.position)
        deliver(room, published(5))
        for _ in range(2):
            socket = FakeSocket()
            come_in(room, socket, since)
            assert socket.got == ["subscribed", *expected]

    def test_a_reading_from_further_back_serves_all_after_it(self) -> None:
        room = open_room(5)
        room.join(FakeSocket())
        assert room.wanted(Position(EPOCH, 2)) == Position(EPOCH, 2)
        assert room.absorb(reading(5, entries(3, 4, 5)), room.position)
        assert room.wanted(Position(EPOCH, 2)) == Position(EPOCH, 5)
        socket = FakeSocket()
        come_in(room, socket, 3)
        assert socket.got == ["subscribed", 4, 5]

    def test_a_reading_that_cannot_reach_back_is_not_called_whole(self) -> None:
        room = open_room(100)
        socket = FakeSocket()
        room.join(socket)
        read = reading(100, entries(99, 100), recovered=False)
        assert room.absorb(read, room.position)
        frames: list[Encoded] = []
        socket.push = frames.append  # type: ignore[method-assign]
        room.admit(socket, Position(EPOCH, 2), read)
        (frame,) = messages(frames[0])
        assert not frame["recovered"]
        assert len(frame["events"]) == 2

    def test_a_reading_that_is_ahead_brings_the_room_along(self) -> None:
        room = open_room(3)
        early, late = joined(room), FakeSocket()
        room.join(late)
        read = reading(5, entries(4, 5))
        assert room.absorb(read, room.position)
        room.admit(late, Position(EPOCH, 4), read)
        assert deliver(room, *map(published, (4, 5, 6)))
        assert early.got == [4, 5, 6]
        assert late.got == ["subscribed", 5, 6]

    def test_a_reading_too_far_ahead_cannot_be_absorbed(self) -> None:
        room = open_room(3)
        socket = joined(room)
        room.join(FakeSocket())
        assert not room.absorb(reading(900, entries(899, 900), recovered=False), room.position)
        assert not room.absorb(reading(1, epoch="e2"), room.position)
        assert socket.got == []

    def test_nothing_is_kept_for_nobody(self) -> None:
        room = open_room()
        come_in(room, FakeSocket())
        deliver(room, published(1))
        room.forget()
        deliver(room, published(2))
        assert room.wanted(Position(EPOCH, 1)) == Position(EPOCH, 1)
        assert room.wanted(None) is None


class TestRemoval:
    def test_all_sockets_of_the_user_go_first(self) -> None:
        room = open_room()
        alice, bob, bob_too = joined(room), joined(room, BOB), joined(room, BOB)
        deliver(room, published(1), published(2, removal(BOB)), published(3))
        assert alice.got == [1, 2, 3]
        assert bob.got == bob_too.got == [1, "removed"]

    def test_while_joining(self) -> None:
        room = open_room()
        socket = FakeSocket(BOB)
        room.join(socket)
        read = reading(0)
        deliver(room, published(1), published(2, removal(BOB)), published(3))
        assert room.absorb(read, Position(EPOCH, 0))
        room.admit(socket, None, read)
        deliver(room, published(4))
        assert socket.got == ["removed"]
        assert room.is_empty

    def test_that_the_reading_has_seen_and_undone(self) -> None:
        """Removed and added again, both before the reading."""
        room = open_room()
        before, after = FakeSocket(BOB), FakeSocket(BOB)
        read = reading(2, (Entry(1, removal(BOB)), Entry(2, message(2))))
        for socket in (before, after):
            room.join(socket)
            assert room.absorb(read, room.position)
            room.admit(socket, Position(EPOCH, 2), read)
        deliver(room, published(1, removal(BOB)), published(2), published(3))
        assert before.got == after.got == ["subscribed", 3]


def test_leaving() -> None:
    room = open_room()
    member, joining = joined(room), FakeSocket()
    room.join(joining)
    for socket in (member, joining):
        assert not room.is_empty
        room.leave(socket)
    assert room.is_empty


def test_joining_again_starts_anew() -> None:
    room = open_room()
    socket = joined(room)
    room.join(socket)
    deliver(room, published(1))
    assert socket.got == []
    come_in(room, socket, 1)
    deliver(room, published(2))
    assert socket.got == ["subscribed", 2]


class Play:
    """A room, its log, and everything that may happen between them, in a random order.

    Messages are late or lost, readings are late, sockets come at any time from any position, and
    BOB is removed half-way.
    """

    STEPS = 400

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.room = open_room()
        self.log: list[bytes] = []
        self.removed_at = 0
        self.wire: list[Published] = []
        self.catch_up: Reading | None = None
        self.joining: list[tuple[FakeSocket, Position]] = []
        self.asked: Position | None = None
        self.readings: list[tuple[FakeSocket, Position, Position | None, Reading]] = []
        self.joined: list[tuple[FakeSocket, int]] = []

    def run(self) -> None:
        actions = [
            self.append,
            self.append,
            self.deliver,
            self.deliver,
            self.read_to_catch_up,
            self.apply_catch_up,
            self.join,
            self.read_to_join,
            self.admit,
            self.forget,
        ]
        for _ in range(self.STEPS):
            self.chance.choice(actions)()
        while self.wire:
            self.deliver()
        self.doubt()
        while self.room.catching_up:
            self.read_to_catch_up()
            self.apply_catch_up()

    def append(self) -> None:
        offset = len(self.log) + 1
        remove = offset > self.STEPS // 10 and not self.removed_at
        if remove:
            self.removed_at = offset
        self.log.append(removal(BOB) if remove else message(offset))
        if self.chance.random() > 0.1:
            self.wire.append(published(offset, self.log[-1]))

    def deliver(self) -> None:
        if self.wire:
            self.room.publish(self.wire.pop(0))
        if self.chance.random() > 0.3 and not self.room.advance(self.chance.randint(1, 500))[1]:
            self.doubt()

    def doubt(self) -> None:
        self.room.catching_up = True
        self.catch_up = None  # it may be too old

    def since(self, position: Position | None) -> Reading:
        start = position.offset if position else 0
        following = enumerate(self.log[start:], start + 1)
        read = tuple(Entry(n, event) for n, event in following)
        return reading(len(self.log), read, recovered=position is not None)

    def read_to_catch_up(self) -> None:
        if self.room.catching_up and not self.catch_up:
            self.asked = self.room.position
            self.catch_up = self.since(self.asked)

    def apply_catch_up(self) -> None:
        if self.catch_up:
            read, self.catch_up = self.catch_up, None
            self.room.catch_up(read, self.asked)
            if not self.room.advance(10**9)[1]:
                self.doubt()

    def join(self) -> None:
        user_id = ALICE if self.removed_at else self.chance.choice([ALICE, BOB])
        since = Position(EPOCH, self.chance.randint(0, len(self.log)))
        self.joining.append((FakeSocket(user_id), since))
        self.room.join(self.joining[-1][0])

    def read_to_join(self) -> None:
        if self.joining:
            socket, since = self.joining.pop(0)
            read = self.since(self.room.wanted(since))
            gone = self.removed_at > 0 and socket.user_id == BOB
            asked = self.room.position
            self.readings.append((socket, since, asked, replace(read, removed=gone)))

    def admit(self) -> None:
        if not self.readings:
            return
        socket, since, asked, read = self.readings.pop(0)
        if read.removed:
            self.room.give_up(socket)
        elif self.room.absorb(read, asked):
            self.room.admit(socket, since, read)
            self.joined.append((socket, since.offset))
        else:
            self.room.give_up(socket)
            self.doubt()

    def forget(self) -> None:
        if not (self.joining or self.readings):
            self.room.forget()


@pytest.mark.parametrize("seed", range(200))
def test_any_order_of_losses_readings_and_joins_shows_every_socket_a_whole_log(seed: int) -> None:
    play = Play(seed)
    play.run()
    assert play.room.position == Position(EPOCH, len(play.log))
    assert play.removed_at
    assert play.joined
    for socket, start in play.joined:
        if socket.user_id == ALICE:
            assert socket.got == ["subscribed", *range(start + 1, len(play.log) + 1)]
        elif socket.got != ["removed"]:
            assert socket.got == ["subscribed", *range(start + 1, play.removed_at), "removed"]
