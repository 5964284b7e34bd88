"""The room's log in Redis: what the writer appends and what a reader gets back."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime

import pytest
import redis

from bus.errors import StoreUnavailable
from bus.rooms import log_reader, log_writer
from bus.rooms.batching import CALL_EVENTS
from bus.rooms.log_reader import RoomLogReader
from bus.rooms.log_writer import RoomLogWriter
from bus.rooms.model import Position, Published, Reading, keys_of
from bus.rooms.redis_client import connect_async
from tests.contract.chat import added, bodies, posted, removed
from tests.support.events import posted_at
from tests.support.servers import Redis
from tests.support.wait import patience


def read(
    server: Redis, room_id: uuid.UUID, since: Position | None = None, user_id: int | None = None
) -> Reading:
    async def once() -> Reading:
        async with connect_async(server.url) as client:
            return await RoomLogReader(client).read(room_id, since, user_id)

    return asyncio.run(once())


def texts(reading: Reading) -> list[str]:
    return bodies(json.loads(entry.event) for entry in reading.entries)


def test_offsets_grow_by_one_and_the_log_is_the_order_on_the_wire(
    server: Redis, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    with client.pubsub() as channel:
        channel.subscribe(keys_of(room_id).channel)
        assert channel.get_message(timeout=patience(5))["type"] == "subscribe"
        assert writer.append([posted(room_id, str(n)) for n in range(3)]) == [1, 2, 3]
        published = [
            Published.parse(channel.get_message(timeout=patience(5))["data"]) for _ in range(3)
        ]
    reading = read(server, room_id)
    assert texts(reading) == ["0", "1", "2"]
    assert [item.event for item in published] == [entry.event for entry in reading.entries]
    assert [item.position.offset for item in published] == [1, 2, 3]
    assert {item.position.epoch for item in published} == {reading.position.epoch}


def test_what_is_published_says_when_it_was_logged(
    client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    def now() -> float:
        seconds, microseconds = client.time()
        return float(seconds + microseconds / 1_000_000)

    with client.pubsub() as channel:
        channel.subscribe(keys_of(room_id).channel)
        assert channel.get_message(timeout=patience(5))["type"] == "subscribe"
        before = now()
        writer.append([posted_at(datetime(2004, 12, 25, tzinfo=UTC), room_id)])
        after = now()
        data = channel.get_message(timeout=patience(5))["data"]
    published = Published.parse(data)
    assert published.logged_at
    assert before <= published.logged_at <= after
    with pytest.raises(ValueError, match="invalid literal"):
        parse_of_the_release_before(data)


def parse_of_the_release_before(data: bytes) -> tuple[bytes, int, bytes]:
    """When it raises, that release's bridge reads the log. It must not take the time for a part
    of the event, which browsers would get."""
    epoch, offset, event = data.split(b" ", 2)
    return epoch, int(offset), event


def test_an_event_counts_once(server: Redis, writer: RoomLogWriter, room_id: uuid.UUID) -> None:
    event, other = posted(room_id, "once"), posted(room_id, "other")
    assert writer.append([event, event, other]) == [1, 0, 2]
    assert writer.append([other, event]) == [0, 0]
    assert texts(read(server, room_id)) == ["once", "other"]


def test_a_large_batch_of_one_room_keeps_its_order(
    server: Redis, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    """It takes several runs of the script."""
    count = 2 * CALL_EVENTS + 1
    with client.pubsub() as channel:
        channel.subscribe(keys_of(room_id).channel)
        assert channel.get_message(timeout=patience(5))["type"] == "subscribe"
        batch = [posted(room_id, str(n)) for n in range(count)]
        assert writer.append(batch) == list(range(1, count + 1))
        offsets = [
            Published.parse(channel.get_message(timeout=patience(5))["data"]).position.offset
            for _ in range(count)
        ]
    assert offsets == list(range(1, count + 1))
    assert texts(read(server, room_id))[-2:] == [str(count - 2), str(count - 1)]


def test_a_rooms_life_is_renewed_now_and_then(
    client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    keys = keys_of(room_id)
    names = (keys.meta, keys.log, keys.seen)
    writer.append([posted(room_id)])
    assert all(client.ttl(name) > 6 * 86_400 for name in names)
    for name in names:
        client.expire(name, 100)
    client.zadd(keys.seen, {"long ago": 1})
    writer.append([posted(room_id)])
    assert [client.ttl(name) <= 100 for name in names] == [True] * 3
    client.hincrby(keys.meta, "renewed", -log_writer.RENEWAL_SECONDS)
    writer.append([posted(room_id)])
    assert all(client.ttl(name) > 6 * 86_400 for name in names)
    assert client.zscore(keys.seen, "long ago") is None


def test_rooms_do_not_mix(server: Redis, writer: RoomLogWriter) -> None:
    rooms = [uuid.uuid4(), uuid.uuid4()]
    assert writer.append([posted(rooms[n % 2], str(n)) for n in range(4)]) == [1, 1, 2, 2]
    assert texts(read(server, rooms[0])) == ["0", "2"]


def test_recovery_is_whole_or_not_at_all(
    server: Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    writer.append([posted(room_id, str(n)) for n in range(5)])
    epoch = read(server, room_id).position.epoch
    assert texts(read(server, room_id, Position(epoch, 2))) == ["2", "3", "4"]
    up_to_date = read(server, room_id, Position(epoch, 5))
    assert (up_to_date.recovered, up_to_date.entries) == (True, ())
    for unknown in (Position("0" * 16, 2), Position(epoch, 6)):
        reading = read(server, room_id, unknown)
        assert not reading.recovered
        assert texts(reading) == ["0", "1", "2", "3", "4"]


def test_a_trimmed_log_recovers_nothing(
    server: Redis, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    writer.append([posted(room_id, str(n)) for n in range(6)])
    epoch = read(server, room_id).position.epoch
    client.xtrim(keys_of(room_id).log, maxlen=3, approximate=False)
    assert not read(server, room_id, Position(epoch, 2)).recovered
    reading = read(server, room_id, Position(epoch, 3))
    assert reading.recovered
    assert texts(reading) == ["3", "4", "5"]


def test_the_log_stays_short(
    client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    writer.append([posted(room_id) for _ in range(log_writer.LOG_LENGTH + 500)])
    # Trimming is approximate: Redis drops whole nodes of 100 entries.
    assert client.xlen(keys_of(room_id).log) < log_writer.LOG_LENGTH + 200


def test_a_long_recovery_is_refused(
    server: Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    writer.append([posted(room_id) for _ in range(log_reader.RECOVERY_EVENTS + 1)])
    epoch = read(server, room_id).position.epoch
    assert not read(server, room_id, Position(epoch, 0)).recovered
    whole = read(server, room_id, Position(epoch, 1))
    assert whole.recovered
    assert len(whole.entries) == log_reader.RECOVERY_EVENTS


def test_a_heavy_recovery_is_refused_and_the_latest_events_are_light(
    server: Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    body = "x" * 30_000
    count = log_reader.RECOVERY_BYTES // len(body) + 1
    writer.append([posted(room_id, body) for _ in range(count)])
    epoch = read(server, room_id).position.epoch
    reading = read(server, room_id, Position(epoch, 0))
    assert not reading.recovered
    assert 0 < sum(len(entry.event) for entry in reading.entries) <= log_reader.RECOVERY_BYTES
    assert reading.entries[-1].offset == count


def test_losing_the_log_changes_the_epoch(
    server: Redis, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    writer.append([posted(room_id, "lost")])
    before = read(server, room_id).position
    client.flushall()
    assert writer.append([posted(room_id, "new")]) == [1]
    reading = read(server, room_id, before)
    assert reading.position.epoch != before.epoch
    assert not reading.recovered
    assert texts(reading) == ["new"]


def test_a_room_without_a_log_has_a_position_that_the_first_event_follows(
    server: Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    empty = read(server, room_id)
    assert (empty.position.offset, empty.entries) == (0, ())
    writer.append([posted(room_id, "first")])
    reading = read(server, room_id, empty.position)
    assert reading.recovered
    assert texts(reading) == ["first"]


def test_a_removal_is_known_until_the_user_is_added_again(
    server: Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    writer.append([added(room_id, 7), removed(room_id, 7)])
    assert read(server, room_id, user_id=7).removed
    assert not read(server, room_id, user_id=8).removed
    writer.append([added(room_id, 7)])
    assert not read(server, room_id, user_id=7).removed


def test_a_replay_publishes_nothing_and_leaves_a_log_alone(
    server: Redis, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    with client.pubsub() as channel:
        writer.append([posted(room_id, "live")])
        channel.subscribe(keys_of(room_id).channel)
        assert channel.get_message(timeout=patience(5))["type"] == "subscribe"
        assert writer.append([posted(room_id, "old")], replay="run") == [0]
        fresh = uuid.uuid4()
        channel.subscribe(keys_of(fresh).channel)
        assert channel.get_message(timeout=patience(5))["type"] == "subscribe"
        assert writer.append([posted(fresh, "old")], replay="run") == [1]
        writer.append([posted(room_id, "marker")])
        assert b"marker" in channel.get_message(timeout=patience(5))["data"]
    assert texts(read(server, room_id)) == ["live", "marker"]
    assert texts(read(server, fresh)) == ["old"]


def test_a_second_replay_changes_nothing(
    server: Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    old = [posted(room_id, str(n)) for n in range(3)]
    assert writer.append(old, replay="first") == [1, 2, 3]
    assert writer.append(old, replay="first") == [0, 0, 0]
    assert writer.append(old, replay="second") == [0, 0, 0]
    assert texts(read(server, room_id)) == ["0", "1", "2"]


def test_the_first_live_event_ends_a_replay(
    server: Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    writer.append([posted(room_id, "old")], replay="run")
    writer.append([posted(room_id, "live")])
    assert writer.append([posted(room_id, "too late")], replay="run") == [0]
    assert texts(read(server, room_id)) == ["old", "live"]


def test_a_replay_fills_a_room_that_somebody_waits_in(
    server: Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    waiting = read(server, room_id).position
    assert writer.append([posted(room_id, "old")], replay="run") == [1]
    reading = read(server, room_id, waiting)
    assert not reading.recovered
    assert texts(reading) == ["old"]


def intact_since(server: Redis) -> float:
    async def ask() -> float:
        async with connect_async(server.url) as reader:
            return await RoomLogReader(reader).intact_since()

    return asyncio.run(ask())


def test_redis_knows_since_when_it_remembers(server: Redis, client: redis.Redis) -> None:
    first = intact_since(server)
    assert intact_since(server) == first
    client.flushall()
    assert intact_since(server) > first


def test_a_server_that_is_away_is_a_retryable_error(
    server: Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    server.kill()
    try:
        with pytest.raises(StoreUnavailable):
            writer.append([posted(room_id)])
        with pytest.raises(StoreUnavailable):
            read(server, room_id)
    finally:
        server.start()
    assert writer.append([posted(room_id, "after")]) == [1]


class TestTakenBack:
    """A failover to a replica that lagged: the last events are gone, under the same epoch."""

    def test_the_log_begins_a_new_life(
        self, server: Redis, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        writer.append([posted(room_id, str(n)) for n in range(3)])
        replica = saved(client, room_id)
        writer.append([posted(room_id, "3"), posted(room_id, "4")])
        read_by_client = read(server, room_id).position
        restore(client, replica)
        assert read(server, room_id).position.offset == 3
        assert not read(server, room_id, read_by_client).recovered
        assert writer.append([posted(room_id, str(n)) for n in (5, 6, 7)]) == [1, 2, 3]
        reading = read(server, room_id, Position(read_by_client.epoch, 4))
        assert not reading.recovered
        assert texts(reading) == ["5", "6", "7"]

    def test_older_tickets_must_be_fetched_anew(
        self, server: Redis, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        writer.append([posted(room_id)])
        replica = saved(client, room_id)
        writer.append([removed(room_id, 2)])
        before = intact_since(server)
        restore(client, replica)
        assert not read(server, room_id, user_id=2).removed, "the removal is not lost"
        writer.append([posted(room_id)])
        assert intact_since(server) > before

    def test_what_was_kept_is_not_logged_again(
        self, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        kept, lost = posted(room_id), posted(room_id)
        writer.append([kept])
        replica = saved(client, room_id)
        writer.append([lost])
        restore(client, replica)
        assert writer.append([kept, lost]) == [0, 1]


def saved(client: redis.Redis, room_id: uuid.UUID) -> dict[str, bytes | None]:
    """All keys of a room."""
    keys = keys_of(room_id)
    names = (keys.meta, keys.log, keys.seen, keys.removed)
    return {name: client.dump(name) for name in names}


def restore(client: redis.Redis, keys: dict[str, bytes | None]) -> None:
    for name, value in keys.items():
        client.delete(name)
        if value:
            client.restore(name, 0, value)
