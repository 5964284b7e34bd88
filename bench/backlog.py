"""A long queue: how much memory each consumer takes while it works off what waits.

The real processes, `chatbus run NAME`, one after the other, on queues that were filled before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from bench.filling import depth, fill
from bench.machine import peak_megabytes
from bus import topology
from bus.topology import Queue
from bus.transport import connect_admin
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import Mongo, Redis
from tests.support.wait import wait_until

MESSAGES = 100_000
ROOMS = 1_000
# As many are worked off while the memory is watched.
DRAINED = 50_000
LIMIT = 120
SECONDS = 600.0


def run(arguments: argparse.Namespace) -> None:
    count = arguments.messages or MESSAGES
    drained = min(DRAINED, count)
    with RabbitMQ() as rabbitmq, Redis() as redis, Mongo() as mongo:
        settings = {
            "BROKER_URL": rabbitmq.url,
            "REDIS_URL": redis.url,
            "MONGO_URL": os.environ.get("MONGO_URL") or mongo.url,
        }
        print(f"{count:,} events of {ROOMS:,} rooms wait; the first {drained:,} are worked off")
        print(f"{'':<20}{'events/s':>10}{'peak resident MB':>20}  (at most {LIMIT} is the aim)")
        for queue in topology.EVENT_QUEUES:
            fill(rabbitmq.url, queue, count, rooms=ROOMS)
            name = queue.name.removeprefix("chat.")
            with _process(name, settings) as pid:
                seconds = _seconds_to(rabbitmq.url, queue, count, drained)
                print(f"{name:<20}{drained / seconds:>10,.0f}{peak_megabytes(pid):>20.0f}")


@contextmanager
def _process(name: str, settings: Mapping[str, str]) -> Iterator[int]:
    command = [sys.executable, "-m", "deploy.cli", "run", name]
    process = subprocess.Popen(command, env={**os.environ, **settings})
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _seconds_to(url: str, queue: Queue, count: int, drained: int) -> float:
    """How long it takes from the first event that is worked off to the last one."""
    with closing(connect_admin(url)) as admin:
        wait_until(lambda: depth(admin, queue) < count, SECONDS, f"{queue.name} is consumed")
        started = time.perf_counter()
        wait_until(lambda: depth(admin, queue) <= count - drained, SECONDS, f"{drained} are done")
        return time.perf_counter() - started
