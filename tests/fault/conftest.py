"""Real servers of this suite's own, which its tests break, and a ``chatbus up`` on them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from bus.topology import EVENT_QUEUES
from tests.conftest import run_server
from tests.fault.form import LONG, SHORT, Form
from tests.fault.system import System
from tests.support.load import Load
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import MariaDB, Mongo, Redis
from tests.support.wait import wait_until


@pytest.fixture(scope="session")
def form() -> Form:
    """How long the faults last: FAULTS=long takes the full times."""
    return LONG if os.environ.get("FAULTS") == "long" else SHORT


@pytest.fixture(scope="package")
def own_redis() -> Iterator[Redis]:
    yield from run_server(Redis())


@pytest.fixture(scope="package")
def own_mongo() -> Iterator[Mongo]:
    yield from run_server(Mongo())


@pytest.fixture(scope="package")
def own_mariadb() -> Iterator[MariaDB]:
    yield from run_server(MariaDB())


@pytest.fixture(scope="package")
def system(
    breakable_rabbitmq: RabbitMQ,
    own_redis: Redis,
    own_mongo: Mongo,
    own_mariadb: MariaDB,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    running = System(
        breakable_rabbitmq, own_redis, own_mongo, own_mariadb, tmp_path_factory.mktemp("system")
    )
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture
def load(system: System) -> Iterator[Load]:
    """People chat in rooms of this test's own; no message of theirs may become a dead letter."""
    wait_until(system.is_ready, what="what was broken before works again")
    with system.load() as load:
        load.wait_for_accepted()
        yield load
    buried = [letter.message_id for queue in EVENT_QUEUES for letter in system.dead_letters(queue)]
    assert not set(buried) & set(load.ledger.postings())
