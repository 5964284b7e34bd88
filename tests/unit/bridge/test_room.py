"""A room's decisions, without Redis and sockets: whatever comes in whatever order."""

from __future__ import annotations

import random
import uuid
from typing import Any

import msgspec
import pytest

from bridge.protocol import Encoded, Reason
from bridge.room import Room
from bus.room_log import Entry, Position, Published, Reading

ROOM = uuid.UUID(int=1)
EPOCH = "e1"
ALICE, BOB = 1, 2


def message(offset: int) -> bytes:
    return b'{"type":"message.posted","data":{"body":"%d"}}' % offset


def removal(user_id: int) -> bytes:
    return b'{"type":"member.removed","data":{"user":{"id":%d,"name":"u"}}}' % user_id


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
        self.got: list[Any] = []

    def send(self, frame: Encoded) -> None:
        content = msgspec.json.decode(frame[frame.index(b'{"') :])
        self.got.append(content["offset"] if content["type"] == "event" else content["type"])

    def dropped(self, room_id: uuid.UUID, reason: Reason) -> None:
        assert room_id == ROOM
        self.got.append(reason)


def open_room(offset: int = 0) -> Room:
    room = Room(ROOM)
    assert room.catch_up(reading(offset, recovered=False))
    return room


def joined(room: Room, user_id: int = ALICE) -> FakeSocket:
    socket = FakeSocket(user_id)
    room.join(socket)
    assert room.position
    assert room.complete(socket, reading(room.position.offset))
    socket.got.clear()
    return socket


def test_the_next_offset_is_delivered() -> None:
    room = open_room(3)
    socket = joined(room)
    assert room.publish(published(4))
    assert room.publish(published(5))
    assert socket.got == [4, 5]


def test_what_is_known_is_ignored() -> None:
    room = open_room(3)
    socket = joined(room)
    assert room.publish(published(3))
    assert room.publish(published(4))
    assert room.publish(published(4))
    assert socket.got == [4]


@pytest.mark.parametrize(
    "early", [published(5), published(1, epoch="e2"), published(4, epoch="e2")]
)
def test_a_gap_asks_for_a_catch_up_and_delivers_nothing(early: Published) -> None:
    room = open_room(3)
    socket = joined(room)
    assert not room.publish(early)
    assert socket.got == []


def test_a_catch_up_delivers_what_was_missed_then_what_waited() -> None:
    room = open_room(3)
    socket = joined(room)
    room.catching_up = True
    for offset in (5, 6, 7):
        assert room.publish(published(offset))
    assert socket.got == []
    assert room.catch_up(reading(6, entries(4, 5, 6)))
    assert socket.got == [4, 5, 6, 7]
    assert not room.catching_up


def test_a_catch_up_that_left_a_gap_asks_for_another() -> None:
    room = open_room(3)
    socket = joined(room)
    room.catching_up = True
    room.publish(published(6))
    assert not room.catch_up(reading(4, entries(4)))
    assert socket.got == [4]


def test_a_lost_part_sends_everybody_away() -> None:
    room = open_room(3)
    socket = joined(room)
    ahead, joining = FakeSocket(), FakeSocket()
    for other in (ahead, joining):
        room.join(other)
    assert room.complete(ahead, reading(9))
    assert room.catch_up(reading(20, entries(19, 20), recovered=False))
    assert socket.got == ["resync"]
    assert ahead.got == ["subscribed", "resync"]
    assert room.is_empty
    assert room.complete(joining, reading(20))
    assert joining.got == ["resync"]
    assert room.is_empty


def test_a_new_room_waits_for_its_position() -> None:
    room = Room(ROOM)
    socket = FakeSocket()
    room.join(socket)
    assert not room.opened.is_set()
    for offset in (4, 5):
        assert room.publish(published(offset))
    assert room.catch_up(reading(4, entries(3, 4), recovered=False))
    assert room.opened.is_set()
    assert room.complete(socket, reading(4))
    assert socket.got == ["subscribed", 5]


def test_a_joining_socket_gets_what_came_after_its_reading() -> None:
    room = open_room(3)
    socket = FakeSocket()
    room.join(socket)
    for offset in (4, 5, 6):
        room.publish(published(offset))
    assert room.complete(socket, reading(5))
    room.publish(published(7))
    assert socket.got == ["subscribed", 6, 7]


def test_a_socket_that_is_ahead_waits_for_the_room() -> None:
    room = open_room(3)
    socket = FakeSocket()
    room.join(socket)
    assert room.complete(socket, reading(5))
    for offset in (4, 5, 6):
        room.publish(published(offset))
    assert socket.got == ["subscribed", 6]


def test_another_epoch_in_the_reading_is_a_resync() -> None:
    room = open_room(3)
    socket = FakeSocket()
    room.join(socket)
    assert room.complete(socket, reading(1, epoch="e2"))
    assert socket.got == ["resync"]
    assert room.is_empty


def test_a_removal_takes_out_all_sockets_of_the_user_first() -> None:
    room = open_room()
    alice, bob, bob_too = joined(room), joined(room, BOB), joined(room, BOB)
    room.publish(published(1, removal(BOB)))
    room.publish(published(2))
    assert alice.got == [1, 2]
    assert bob.got == bob_too.got == ["removed"]


def test_a_removal_while_joining() -> None:
    room = open_room()
    socket = FakeSocket(BOB)
    room.join(socket)
    room.publish(published(1))
    room.publish(published(2, removal(BOB)))
    room.publish(published(3))
    assert room.complete(socket, reading(0))
    room.publish(published(4))
    assert socket.got == ["subscribed", 1, "removed"]
    assert room.is_empty


def test_a_removal_that_the_reading_has_seen_and_undone() -> None:
    room = open_room()
    held, ahead = FakeSocket(BOB), FakeSocket(BOB)
    room.join(held)
    room.join(ahead)
    assert room.complete(ahead, reading(2))
    room.publish(published(1, removal(BOB)))
    room.publish(published(2))
    assert room.complete(held, reading(2))
    room.publish(published(3))
    assert held.got == ahead.got == ["subscribed", 3]


def test_a_removed_user_is_not_let_in() -> None:
    room = open_room()
    socket = FakeSocket(BOB)
    room.join(socket)
    assert not room.complete(socket, reading(3, removed=True))
    assert socket.got == []
    assert room.is_empty


def test_leaving() -> None:
    room = open_room()
    member, joining, ahead = joined(room), FakeSocket(), FakeSocket()
    room.join(joining)
    room.join(ahead)
    room.complete(ahead, reading(5))
    for socket in (member, joining, ahead):
        assert not room.is_empty
        room.leave(socket)
    assert room.is_empty


def test_joining_again_starts_anew() -> None:
    room = open_room()
    socket = joined(room)
    room.join(socket)
    room.publish(published(1))
    assert socket.got == []
    room.complete(socket, reading(1))
    room.publish(published(2))
    assert socket.got == ["subscribed", 2]


class Play:
    """A room, its log, and everything that may happen between them, in a random order.

    Messages are late or lost, readings are late, sockets come at any time, and BOB is removed
    half-way.
    """

    STEPS = 400

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.room = open_room()
        self.log: list[bytes] = []
        self.removed_at = 0
        self.wire: list[Published] = []
        self.catch_up: Reading | None = None
        self.joining: list[FakeSocket] = []
        self.readings: list[tuple[FakeSocket, Reading]] = []
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
            self.complete,
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
        if self.wire and not self.room.publish(self.wire.pop(0)):
            self.doubt()

    def doubt(self) -> None:
        self.room.catching_up = True

    def since(self, offset: int) -> Reading:
        following = enumerate(self.log[offset:], offset + 1)
        return reading(len(self.log), tuple(Entry(n, event) for n, event in following))

    def read_to_catch_up(self) -> None:
        if self.room.catching_up and not self.catch_up:
            assert self.room.position
            self.catch_up = self.since(self.room.position.offset)

    def apply_catch_up(self) -> None:
        if self.catch_up:
            read, self.catch_up = self.catch_up, None
            if not self.room.catch_up(read):
                self.doubt()

    def join(self) -> None:
        user_id = ALICE if self.removed_at else self.chance.choice([ALICE, BOB])
        self.joining.append(FakeSocket(user_id))
        self.room.join(self.joining[-1])

    def read_to_join(self) -> None:
        if self.joining:
            socket = self.joining.pop(0)
            read = reading(len(self.log), removed=self.removed_at > 0 and socket.user_id == BOB)
            self.readings.append((socket, read))

    def complete(self) -> None:
        if self.readings:
            socket, read = self.readings.pop(0)
            if self.room.complete(socket, read):
                self.joined.append((socket, read.position.offset))
            else:
                assert read.removed
                assert socket.got == []


@pytest.mark.parametrize("seed", range(100))
def test_any_order_of_losses_readings_and_joins_shows_every_socket_a_whole_log(seed: int) -> None:
    play = Play(seed)
    play.run()
    assert play.room.position == Position(EPOCH, len(play.log))
    assert play.removed_at
    assert play.joined
    for socket, start in play.joined:
        if socket.user_id == BOB:
            assert socket.got == ["subscribed", *range(start + 1, play.removed_at), "removed"]
        else:
            assert socket.got == ["subscribed", *range(start + 1, len(play.log) + 1)]
