"""Joining and catching up when the answers of Redis come late: a reader that answers on command."""

from __future__ import annotations

import asyncio
import tracemalloc
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bridge.hub import hub as hub_module
from bridge.hub.hub import Hub
from bridge.hub.pubsub import PubSub
from bus.events import channel_of
from bus.rooms.log_reader import RoomLogReader
from bus.rooms.model import Position, Reading, keys_of
from bus.rooms.redis_client import connect_async
from tests.unit.bridge.test_room import ROOM, FakeSocket, entries, message, reading

CHANNEL = keys_of(ROOM).channel.encode()
NO_SERVER = "redis://127.0.0.1:1"


class SlowReader(RoomLogReader):
    """Hands out every reading as a future for the test to answer."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[Position | None, asyncio.Future[Reading]]] = asyncio.Queue()

    async def read(
        self, room_id: uuid.UUID, since: Position | None, user_id: int | None = None
    ) -> Reading:
        answer: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
        self.asked.put_nowait((since, answer))
        return await answer

    async def answer(self, with_: Reading) -> Position | None:
        since, answer = await self.asked.get()
        answer.set_result(with_)
        return since


class Scene:
    """Hub whose pubsub is connected, with one socket in ROOM at offset 1."""

    def __init__(self) -> None:
        self.reader = SlowReader()
        self.pubsub = PubSub(connect_async(NO_SERVER))
        self.pubsub.connected.set()
        self.hub = Hub(self.pubsub, self.reader)
        self.socket = FakeSocket()

    async def open(self) -> None:
        joining = self.join(self.socket)
        # Lets the joining begin: it asks for the channel and waits.
        await asyncio.sleep(0)
        self.hub.subscribed(CHANNEL)
        assert await self.reader.answer(reading(1, entries(1), recovered=False)) is None
        assert await self.reader.answer(reading(1)) == Position("e1", 1)
        assert await joining
        self.socket.got.clear()

    def join(self, socket: FakeSocket) -> asyncio.Task[bool]:
        return asyncio.create_task(self.hub.join(socket, ROOM, None, ticket_issued_at=1.0))

    def publish(self, offset: int) -> None:
        self.hub.published(CHANNEL, b"e1 %d@1700000000.5 %b" % (offset, message(offset)))


def play(script: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            scene = Scene()
            catch_ups = asyncio.create_task(scene.hub.run_catch_ups())
            await scene.open()
            await script(scene)
            catch_ups.cancel()

    asyncio.run(run())


def test_a_gap_is_read_from_the_log() -> None:
    async def script(scene: Scene) -> None:
        scene.publish(3)
        assert await scene.reader.answer(reading(3, entries(2, 3))) == Position("e1", 1)
        scene.publish(4)
        await settle(scene, [2, 3, 4])

    play(script)


def test_a_reading_that_was_overtaken_by_a_reconnection_is_made_again() -> None:
    async def script(scene: Scene) -> None:
        scene.publish(3)
        since, answer = await scene.reader.asked.get()
        assert since == Position("e1", 1)
        # The log went on after this reading, and the messages were lost with the connection.
        scene.hub.subscribed(CHANNEL)
        answer.set_result(reading(3, entries(2, 3)))
        await scene.reader.answer(reading(4, entries(2, 3, 4)))
        await settle(scene, [2, 3, 4])

    play(script)


def test_a_joiner_who_reads_another_epoch_makes_the_room_look() -> None:
    async def script(scene: Scene) -> None:
        joiner = FakeSocket()
        joining = scene.join(joiner)
        await scene.reader.answer(reading(1, epoch="e2"))
        await joining
        assert joiner.got == ["resync"]
        await scene.reader.answer(reading(1, recovered=False, epoch="e2"))
        await settle(scene, ["resync"])

    play(script)


def test_a_users_own_channel_has_no_presence() -> None:
    async def script(scene: Scene) -> None:
        own = channel_of(7)
        joining = asyncio.create_task(scene.hub.join(FakeSocket(), own, None, ticket_issued_at=1.0))
        await asyncio.sleep(0)
        scene.hub.subscribed(keys_of(own).channel.encode())
        await scene.reader.answer(reading(0, recovered=False))
        await scene.reader.answer(reading(0))
        assert await joining
        assert len(scene.hub) == 2
        assert scene.hub.ids() == [ROOM]
        assert scene.hub.changed == {ROOM}

    play(script)


def test_a_flooded_room_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "ROOM_BYTES", 2_000)
    monkeypatch.setattr(hub_module, "TURN_BYTES", 4_000)

    async def script(scene: Scene) -> None:
        quiet, socket = uuid.UUID(int=2), FakeSocket()
        channel = keys_of(quiet).channel.encode()
        joining = asyncio.create_task(scene.hub.join(socket, quiet, None, ticket_issued_at=1.0))
        await asyncio.sleep(0)
        scene.hub.subscribed(channel)
        await scene.reader.answer(reading(0, recovered=False))
        await scene.reader.answer(reading(0))
        await joining
        for offset in range(2, 502):
            scene.publish(offset)
        scene.hub.published(channel, b"e1 1@1700000000.5 " + message(1))
        while 1 not in socket.got:
            await asyncio.sleep(0)
        assert 0 < len(scene.socket.got) < 100
        await settle(scene, list(range(2, 502)))

    play(script)


def test_redis_waits_while_too_much_waits_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "TURN_BYTES", 4_000)

    async def script(scene: Scene) -> None:
        for offset in range(2, 502):
            scene.publish(offset)
        assert scene.pubsub.may_read.is_set()
        scene.publish(502)
        assert not scene.pubsub.may_read.is_set()
        await settle(scene, list(range(2, 503)))
        assert scene.pubsub.may_read.is_set()

    play(script)


async def settle(scene: Scene, expected: list[Any]) -> None:
    """Waits until the socket got what it should, and lets whatever follows happen."""
    while len(scene.socket.got) < len(expected):
        await asyncio.sleep(0)
    assert scene.socket.got == expected
    assert scene.reader.asked.empty()


class Deaf:
    """A listener that does nothing."""

    def subscribed(self, channel: bytes) -> None: ...

    def published(self, channel: bytes, data: bytes) -> None: ...


def test_a_pubsub_that_is_not_connected_remembers_no_commands() -> None:
    pubsub, deaf = PubSub(connect_async(NO_SERVER)), Deaf()
    tracemalloc.start()
    for _ in range(10_000):
        pubsub.subscribe(b"channel", deaf)
        pubsub.unsubscribe(b"channel")
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 10_000
