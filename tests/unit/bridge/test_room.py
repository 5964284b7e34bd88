"""A room's decisions, without Redis and sockets: whatever arrives, in whatever order."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from bridge.hub.room import Room, RoomBehind
from bridge.protocol import Encoded, Reason
from bus.rooms.model import LOG_LENGTH, Entry, Position, Published, Reading
from bus.rooms.presence import PresentUsers
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
        self.epochs: set[str] = set()

    def push(self, frames: Encoded) -> None:
        for frame in messages(frames):
            if frame["type"] == "presence":
                self.got.append(f"presence {frame['count']}")
                continue
            self.epochs.add(frame["epoch"])
            self.got.append(frame["offset"] if frame["type"] == "event" else frame["type"])
            self._take_recovered(frame.get("events", ()), frame.get("offset", 0))

    def _take_recovered(self, events: Sequence[Any], last: int) -> None:
        """The events of an answer to a joiner, which must lead up to ``last`` without a hole."""
        offsets = range(last + 1 - len(events), last + 1)
        texts = [event["data"].get("body") for event in events]
        assert all(text in (None, str(n)) for text, n in zip(texts, offsets, strict=True))
        self.got += offsets

    def dropped(self, room_id: uuid.UUID, reason: Reason) -> None:
        assert room_id == ROOM
        self.got.append(reason)


def new_room() -> Room:
    return Room(ROOM, on_stale=lambda _: None)


def open_room(offset: int = 0) -> Room:
    room = new_room()
    catch_up(room, reading(offset, recovered=False))
    return room


def catch_up(room: Room, read: Reading) -> Position | None:
    """Applies a reading that began now; returns where it began."""
    room.mark_stale()
    start = room.begin_reading()
    room.finish_reading(read)
    return start


def joined(room: Room, user_id: int = ALICE) -> FakeSocket:
    socket = FakeSocket(user_id)
    come_in(room, socket)
    assert socket.got == ["subscribed"]
    socket.got.clear()
    return socket


def come_in(
    room: Room, socket: FakeSocket, since: int | None = None, read: Reading | None = None
) -> None:
    """Joins by ``read``, or by a reading that has nothing new."""
    start_joining(room, socket, since)
    assert room.position
    room.admit(socket, read or reading(room.position.offset))


def start_joining(room: Room, socket: FakeSocket, since: int | None = None) -> Position | None:
    room.join(socket, None if since is None else Position(EPOCH, since))
    return room.begin_join(socket)


def deliver(room: Room, *what: Published) -> bool:
    """Publishes ``what``; False if the room needs its log to go on."""
    for item in what:
        room.publish(item)
    room.advance(10**9)
    return not room.needs_reading


def lag() -> tuple[float, float]:
    """Sum and count of the bridge's lag."""
    names = ("chatbus_bridge_lag_seconds_sum", "chatbus_bridge_lag_seconds_count")
    total, count = (REGISTRY.get_sample_value(name) or 0.0 for name in names)
    return total, count


def test_an_event_lags_since_it_was_logged_however_old_it_is() -> None:
    """``ID`` is of 2023, as that of an imported message may be."""
    room = open_room(1)
    total, count = lag()
    room.publish(published(2)._replace(logged_at=time.time() - 5))
    room.advance(1)
    assert lag()[1] == count + 1
    assert 5 <= lag()[0] - total < 3_600


def test_what_was_read_from_the_log_says_nothing_of_the_lag() -> None:
    room = open_room(1)
    before = lag()
    catch_up(room, reading(3, entries(2, 3)))
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
        written = room.advance(5_000)
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
    room.mark_stale()
    assert not deliver(room, *map(published, (5, 6, 7)))
    assert socket.got == []
    catch_up(room, reading(6, entries(4, 5, 6)))
    assert deliver(room)
    assert socket.got == [4, 5, 6, 7]


def test_a_catch_up_that_left_a_gap_asks_for_another() -> None:
    room = open_room(3)
    socket = joined(room)
    room.mark_stale()
    room.publish(published(6))
    catch_up(room, reading(4, entries(4)))
    assert not deliver(room)
    assert socket.got == [4]


def test_a_catch_up_that_a_joiner_has_overtaken_repeats_nothing() -> None:
    room = open_room(3)
    socket = joined(room)
    room.mark_stale()
    assert room.begin_reading() == Position(EPOCH, 3)
    come_in(room, FakeSocket(), read=reading(5, entries(4, 5)))
    room.finish_reading(reading(4, entries(4)))
    assert deliver(room)
    assert socket.got == [4, 5]


def test_an_older_reading_without_a_beginning_that_a_joiner_has_overtaken_drops_nobody() -> None:
    room = open_room(3)
    socket = joined(room)
    room.mark_stale()
    room.begin_reading()
    come_in(room, FakeSocket(), read=reading(5, entries(4, 5)))
    room.finish_reading(reading(4, entries(3, 4), recovered=False))
    assert deliver(room)
    assert socket.got == [4, 5]


def test_a_log_that_went_back_drops_all() -> None:
    """A failover took back 4 and 5, and offsets are used again."""
    room = open_room(5)
    socket = joined(room)
    room.mark_stale()
    deliver(room, published(4), published(5))
    catch_up(room, reading(3, recovered=False))
    assert socket.got == ["resync"]
    come_in(room, socket)
    assert deliver(room, published(4), published(5))
    assert socket.got == ["resync", "subscribed", 4, 5]


def test_a_log_that_went_back_lets_nobody_in() -> None:
    room = open_room(5)
    joiner = FakeSocket()
    with pytest.raises(RoomBehind):
        come_in(room, joiner, read=reading(3, recovered=False))
    assert room.needs_reading
    assert joiner.got == []


def test_what_was_missed_is_delivered_by_turns() -> None:
    room = open_room()
    socket = joined(room)
    catch_up(room, reading(100, entries(*range(1, 101))))
    assert socket.got == []
    room.advance(1)
    assert socket.got == [1]
    assert deliver(room)
    assert socket.got == [*range(1, 101)]


def test_more_than_can_wait_leaves_a_gap_that_is_noticed() -> None:
    """What was missed comes before a full queue, and must not push its newest event out."""
    room = open_room()
    socket = joined(room)
    room.mark_stale()
    room.begin_reading()
    for offset in range(501, 501 + LOG_LENGTH):
        room.publish(published(offset))
    room.finish_reading(reading(500, entries(*range(1, 501))))
    assert not deliver(room)
    assert socket.got == [*range(1, 501)]


def test_a_lost_part_drops_all() -> None:
    room = open_room(3)
    socket, joiner = joined(room), FakeSocket()
    start_joining(room, joiner)
    catch_up(room, reading(20, entries(19, 20), recovered=False))
    assert socket.got == ["resync"]
    assert room.is_empty
    room.admit(joiner, reading(20))
    assert joiner.got == ["resync"]
    assert room.is_empty


def test_a_new_room_waits_for_its_position() -> None:
    room = new_room()
    socket = FakeSocket()
    room.join(socket, None)
    deliver(room, published(4), published(5))
    assert not room.opened.is_set()
    assert socket.got == []
    catch_up(room, reading(4, entries(3, 4), recovered=False))
    assert room.opened.is_set()
    room.begin_join(socket)
    room.admit(socket, reading(4))
    assert deliver(room)
    assert socket.got == ["subscribed", 3, 4, 5]


class TestStates:
    """OPENING, STALE, READING and CURRENT, as far as they can be seen from outside."""

    def test_a_room_asks_once_for_a_reading(self) -> None:
        asked: list[Room] = []
        room = Room(ROOM, on_stale=asked.append)
        room.join(FakeSocket(), None)
        assert not room.needs_reading
        room.mark_stale()
        room.mark_stale()
        assert room.needs_reading
        room.begin_reading()
        room.mark_stale()
        assert asked == [room]
        room.begin_reading()
        room.finish_reading(reading(0, recovered=False))
        assert not room.needs_reading
        room.mark_stale()
        assert asked == [room, room]

    def test_a_reading_that_began_before_the_room_became_stale_is_not_applied(self) -> None:
        room = open_room(3)
        socket = joined(room)
        room.mark_stale()
        room.begin_reading()
        room.mark_stale()
        room.finish_reading(reading(4, entries(4)))
        assert room.needs_reading
        assert not deliver(room, published(4))
        assert room.begin_reading() == Position(EPOCH, 3)
        room.finish_reading(reading(5, entries(4, 5)))
        assert deliver(room)
        assert socket.got == [4, 5]

    def test_a_reading_that_nobody_began_is_not_applied(self) -> None:
        room = open_room(3)
        socket = joined(room)
        room.finish_reading(reading(900, entries(900), recovered=False))
        assert room.position == Position(EPOCH, 3)
        assert deliver(room, published(4))
        assert socket.got == [4]

    def test_a_reading_that_failed_begins_again(self) -> None:
        room = open_room(3)
        socket = joined(room)
        room.mark_stale()
        room.begin_reading()
        assert room.begin_reading() == Position(EPOCH, 3)
        room.finish_reading(reading(4, entries(4)))
        assert deliver(room)
        assert socket.got == [4]

    def test_an_empty_room_needs_no_reading(self) -> None:
        room = open_room(3)
        socket = joined(room)
        room.mark_stale()
        room.leave(socket)
        assert not room.needs_reading

    @pytest.mark.parametrize(
        "read", [reading(900, entries(899, 900), recovered=False), reading(5, entries(5))]
    )
    def test_a_joiner_with_a_gap_before_its_reading_stays_outside(self, read: Reading) -> None:
        room = open_room(3)
        socket, joiner = joined(room), FakeSocket()
        with pytest.raises(RoomBehind):
            come_in(room, joiner, read=read)
        assert room.needs_reading
        room.give_up(joiner)
        assert deliver(room) is False
        assert (socket.got, joiner.got) == ([], [])

    def test_a_joiner_that_reads_another_epoch_is_dropped(self) -> None:
        room = open_room(3)
        socket, joiner = joined(room), FakeSocket()
        come_in(room, joiner, read=reading(1, epoch="e2"))
        assert room.needs_reading
        assert (socket.got, joiner.got) == ([], ["resync"])


class TestComingBack:
    @pytest.fixture
    def room(self) -> Room:
        """At 5, with the events from 3 on."""
        room = new_room()
        room.join(FakeSocket(), None)
        catch_up(room, reading(4, entries(3, 4), recovered=False))
        deliver(room, published(5))
        return room

    def test_what_the_room_has_is_not_read_again(self, room: Room) -> None:
        for since in (None, 2, 9):
            assert start_joining(room, FakeSocket(), since) == Position(EPOCH, 5)
        assert start_joining(room, FakeSocket(), 1) == Position(EPOCH, 1)
        joiner = FakeSocket()
        room.join(joiner, Position("other", 9))
        assert room.begin_join(joiner) == Position(EPOCH, 5)

    @pytest.mark.parametrize(
        ("since", "expected"),
        [(None, [3, 4, 5]), (2, [3, 4, 5]), (3, [4, 5]), (5, []), (9, [3, 4, 5])],
    )
    def test_a_joiner_gets_what_it_lacks(
        self, room: Room, since: int | None, expected: list[int]
    ) -> None:
        for _ in range(2):
            socket = FakeSocket()
            come_in(room, socket, since)
            assert socket.got == ["subscribed", *expected]

    def test_a_reading_from_further_back_serves_all_after_it(self) -> None:
        room = open_room(5)
        joiner = FakeSocket()
        assert start_joining(room, joiner, 2) == Position(EPOCH, 2)
        room.admit(joiner, reading(5, entries(3, 4, 5)))
        assert joiner.got == ["subscribed", 3, 4, 5]
        socket = FakeSocket()
        assert start_joining(room, socket, 3) == Position(EPOCH, 5)
        room.admit(socket, reading(5))
        assert socket.got == ["subscribed", 4, 5]

    def test_a_reading_that_cannot_reach_back_is_not_called_whole(self) -> None:
        room = open_room(100)
        socket = FakeSocket()
        frames: list[Encoded] = []
        socket.push = frames.append  # type: ignore[method-assign]
        come_in(room, socket, 2, reading(100, entries(99, 100), recovered=False))
        (frame,) = messages(frames[0])
        assert not frame["recovered"]
        assert len(frame["events"]) == 2

    def test_a_reading_after_the_recent_events_were_forgotten_is_not_called_whole(self) -> None:
        """A slow Redis may answer a joiner after that time."""
        room = open_room(5)
        socket = FakeSocket()
        frames: list[Encoded] = []
        socket.push = frames.append  # type: ignore[method-assign]
        start_joining(room, socket, 2)
        room.forget()
        room.admit(socket, reading(7, entries(3, 4, 5, 6, 7)))
        (frame,) = messages(frames[0])
        assert (frame["offset"], frame["recovered"], frame["events"]) == (7, False, [])

    def test_a_reading_that_is_ahead_brings_the_room_along(self) -> None:
        room = open_room(3)
        early, late = joined(room), FakeSocket()
        come_in(room, late, 4, reading(5, entries(4, 5)))
        assert deliver(room, *map(published, (4, 5, 6)))
        assert early.got == [4, 5, 6]
        assert late.got == ["subscribed", 5, 6]

    def test_nothing_is_kept_once_it_is_forgotten(self) -> None:
        room = open_room()
        come_in(room, FakeSocket())
        deliver(room, published(1))
        room.forget()
        deliver(room, published(2))
        assert start_joining(room, FakeSocket(), 1) == Position(EPOCH, 1)
        assert start_joining(room, FakeSocket()) is None


class TestRemoval:
    def test_all_sockets_of_the_user_go_first(self) -> None:
        room = open_room()
        alice, bob, bob_too = joined(room), joined(room, BOB), joined(room, BOB)
        deliver(room, published(1), published(2, removal(BOB)), published(3))
        assert alice.got == [1, 2, 3]
        assert bob.got == bob_too.got == [1, "removed"]

    def test_of_the_whole_room(self) -> None:
        room = open_room()
        alice, bob, late = joined(room), joined(room, BOB), FakeSocket()
        start_joining(room, late)
        deletion = b'{"type":"room.deleted","id":"%b","data":{}}' % ID
        deliver(room, published(1), published(2, deletion), published(3))
        room.admit(late, reading(0))
        assert alice.got == bob.got == [1, 2, "removed"]
        assert late.got == ["removed"]
        assert room.is_empty

    def test_while_joining(self) -> None:
        room = open_room()
        socket = FakeSocket(BOB)
        start_joining(room, socket)
        read = reading(0)
        deliver(room, published(1), published(2, removal(BOB)), published(3))
        room.admit(socket, read)
        deliver(room, published(4))
        assert socket.got == ["removed"]
        assert room.is_empty

    def test_that_the_reading_has_seen_and_undone(self) -> None:
        """Removed and added again, both before the reading."""
        room = open_room()
        before, after = FakeSocket(BOB), FakeSocket(BOB)
        read = reading(2, (Entry(1, removal(BOB)), Entry(2, message(2))))
        for socket in (before, after):
            come_in(room, socket, 2, read)
        deliver(room, published(1, removal(BOB)), published(2), published(3))
        assert before.got == after.got == ["subscribed", 3]


def test_leaving() -> None:
    room = open_room()
    member, joiner = joined(room), FakeSocket()
    room.join(joiner, None)
    for socket in (member, joiner):
        assert not room.is_empty
        room.leave(socket)
    assert room.is_empty


def test_joining_again_starts_over() -> None:
    room = open_room()
    socket = joined(room)
    room.join(socket, None)
    deliver(room, published(1))
    assert socket.got == []
    come_in(room, socket, 1)
    deliver(room, published(2))
    assert socket.got == ["subscribed", 2]


class Play:
    """A room, its log, and everything that may happen between them, in a random order.

    Messages are late or lost, connections break, readings are late or fail, sockets join at any
    time from any position, and BOB is removed half-way.
    """

    STEPS = 400

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        # As the hub's queue of stale rooms, and its one reading of the room at a time.
        self.due = 0
        self.is_reading = False
        self.asked: Position | None = None
        self.read: Reading | None = None
        self.room = Room(ROOM, on_stale=self.on_stale)
        self.epoch = EPOCH
        self.logs: dict[str, list[bytes]] = {EPOCH: []}
        self.removed_at = 0
        self.channel: list[Published | PresentUsers] = []
        self.joining: list[tuple[FakeSocket, Position]] = []
        self.readings: list[tuple[FakeSocket, Position, Reading]] = []
        self.joined: list[tuple[FakeSocket, Position]] = []
        self.everybody: list[FakeSocket] = []
        self.keeper = FakeSocket()
        # A room without sockets would be closed.
        self.room.join(self.keeper, None)
        self.room.mark_stale()
        self.begin_reading()
        self.read_log()
        self.finish_reading()

    @property
    def log(self) -> list[bytes]:
        return self.logs[self.epoch]

    def run(self) -> None:
        for _ in range(self.STEPS):
            self.chance.choice(self.actions())()
            self.check()
        while self.channel:
            self.deliver()
            self.check()
        self.lose_connection()
        while self.due or self.is_reading:
            self.chance.choice([self.begin_reading, self.read_log, self.finish_reading])()
            self.check()

    def actions(self) -> list[Callable[[], None]]:
        return [
            self.append,
            self.append,
            self.deliver,
            self.deliver,
            self.announce,
            self.lose_connection,
            self.begin_reading,
            self.read_log,
            self.fail_reading,
            self.finish_reading,
            self.finish_reading,
            self.join,
            self.read_to_join,
            self.admit,
            self.forget,
        ]

    def check(self) -> None:
        """Of a reading that is needed, exactly one is due or under way; and only it is."""
        assert self.due + self.is_reading == self.room.needs_reading

    # The log and its channel

    def append(self) -> None:
        offset = len(self.log) + 1
        remove = offset > self.STEPS // 20 and not self.removed_at
        if remove:
            self.removed_at = offset
        self.log.append(removal(BOB) if remove else message(offset))
        if self.chance.random() > 0.1:
            self.channel.append(published(offset, self.log[-1], self.epoch))

    def announce(self) -> None:
        """Presence that is published after a removal must not reach the removed user."""
        self.channel.append(PresentUsers([], count=1 if self.removed_at else 0))

    def deliver(self) -> None:
        if self.channel:
            self.room.publish(self.channel.pop(0))
        if self.chance.random() > 0.3:
            self.room.advance(self.chance.randint(1, 500))

    def lose_connection(self) -> None:
        """What is on the way is lost, and the channel is subscribed to again."""
        if self.chance.random() < 0.3:
            self.channel.clear()
            self.room.mark_stale()
        self.room.mark_stale()

    # The hub

    def on_stale(self, room: Room) -> None:
        assert room is self.room
        self.due += 1

    def begin_reading(self) -> None:
        if self.due and not self.is_reading:
            self.due -= 1
            self.is_reading = True
            self.asked = self.room.begin_reading()

    def read_log(self) -> None:
        if self.is_reading and not self.read:
            self.read = self.since(self.asked)

    def fail_reading(self) -> None:
        if self.is_reading:
            self.read = None
            self.asked = self.room.begin_reading()

    def finish_reading(self) -> None:
        if not self.read:
            return
        read, self.read = self.read, None
        self.room.finish_reading(read)
        if self.room.needs_reading:
            self.asked = self.room.begin_reading()
        else:
            self.is_reading = False
            self.room.advance(10**9)

    def since(self, position: Position | None) -> Reading:
        is_known = position is not None and position.epoch == self.epoch
        start = position.offset if position and is_known else 0
        following = enumerate(self.log[start:], start + 1)
        read = tuple(Entry(n, event) for n, event in following)
        return reading(len(self.log), read, recovered=is_known, epoch=self.epoch)

    # Sockets

    def join(self) -> None:
        user_id = ALICE if self.removed_at else self.chance.choice([ALICE, BOB])
        socket = FakeSocket(user_id)
        since = Position(self.epoch, self.chance.randint(0, len(self.log)))
        self.joining.append((socket, since))
        self.everybody.append(socket)
        self.room.join(socket, since)

    def read_to_join(self) -> None:
        if self.joining:
            socket, since = self.joining.pop(0)
            read = self.since(self.room.begin_join(socket))
            gone = self.removed_at > 0 and socket.user_id == BOB
            self.readings.append((socket, since, replace(read, removed=gone)))

    def admit(self) -> None:
        if not self.readings:
            return
        socket, since, read = self.readings.pop(0)
        if not read.removed:
            try:
                self.room.admit(socket, read)
                self.joined.append((socket, since))
            except RoomBehind:
                assert socket.got == []
        self.room.give_up(socket)

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
    for socket, since in play.joined:
        events = [what for what in socket.got if not str(what).startswith("presence")]
        if socket.user_id == ALICE:
            assert events == ["subscribed", *range(since.offset + 1, len(play.log) + 1)]
        elif socket.got != ["removed"]:
            assert events == ["subscribed", *range(since.offset + 1, play.removed_at), "removed"]
            assert socket.got[-1] == "removed"
            assert "presence 1" not in socket.got


class Failover(Play):
    """Now and then Redis loses everything, and the log begins again in another epoch."""

    def actions(self) -> list[Callable[[], None]]:
        return [*super().actions(), self.restart]

    def restart(self) -> None:
        if self.chance.random() < 0.2:
            self.epoch = f"e{len(self.logs) + 1}"
            self.logs[self.epoch] = []
            self.removed_at = 0
            # The bridge notices when it connects to the Redis that took over.
            self.channel.clear()
            self.room.mark_stale()

    def forget(self) -> None:
        """At any time: a slow Redis may answer a joiner afterwards."""
        self.room.forget()

    def finish_reading(self) -> None:
        super().finish_reading()
        if self.room.is_empty:
            # The hub closes it; a new room takes the next joiners.
            self.keeper = FakeSocket()
            self.room.join(self.keeper, None)


@pytest.mark.parametrize("seed", range(100))
def test_no_socket_sees_a_hole_or_two_lives_of_a_log(seed: int) -> None:
    play = Failover(seed)
    play.run()
    assert play.room.position == Position(play.epoch, len(play.log))
    for socket in play.everybody:
        events = [what for what in socket.got if not str(what).startswith("presence")]
        if events and events[-1] in ("resync", "removed"):
            assert socket.got[-1] in ("resync", "removed")
            events.pop()
        if events:
            assert events.pop(0) == "subscribed"
        assert all(isinstance(what, int) for what in events)
        assert len(socket.epochs) <= 1
        if events:
            assert events == [*range(events[0], events[0] + len(events))]
