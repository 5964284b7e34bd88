"""A running chatbus on real RabbitMQ, Redis and MariaDB; MongoDB is the one of MONGO_URL, else
the embedded server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import MariaDB, Redis
from tests.support.stack import HIGH_LIMITS, Stack


@dataclass
class RealStack:
    stack: Stack
    rabbitmq: RabbitMQ
    redis: Redis
    mariadb: MariaDB


@contextmanager
def real_stack() -> Iterator[RealStack]:
    with ExitStack() as cleanup:
        rabbitmq = cleanup.enter_context(RabbitMQ())
        redis = cleanup.enter_context(Redis())
        mariadb = cleanup.enter_context(MariaDB())
        folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="chatbus-bench-"))
        settings = {
            "BROKER_URL": rabbitmq.url,
            "REDIS_URL": redis.url,
            "DATABASE_URL": mariadb.url,
            **HIGH_LIMITS,
        }
        if os.environ.get("MONGO_URL"):
            settings["MONGO_URL"] = os.environ["MONGO_URL"]
        stack = Stack(Path(folder), settings)
        cleanup.callback(stack.close)
        stack.start()
        stack.wait_until_ready()
        yield RealStack(stack, rabbitmq, redis, mariadb)
