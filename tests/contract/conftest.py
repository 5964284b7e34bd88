"""Redis servers for the room log and the bridge: one that all share, and one to be broken."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import redis

from bus.rooms.log_writer import RoomLogWriter
from tests.conftest import run_server
from tests.support.servers import Redis


@pytest.fixture(scope="module")
def redis_url(redis_server: Redis) -> str:
    """A database that nobody has used."""
    return redis_server.fresh_database()


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    """A server that the tests of a module may kill and flush."""
    yield from run_server(Redis())


@pytest.fixture
def client(server: Redis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def writer(server: Redis) -> Iterator[RoomLogWriter]:
    writer = RoomLogWriter.connect(server.url)
    yield writer
    writer.close()


@pytest.fixture
def room_id() -> uuid.UUID:
    return uuid.uuid4()
