"""A ``chatbus up`` on real servers, and what can be seen of it from outside."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pika
import pika.exceptions
import requests

from bus.topology import CONSUMERS, Queue
from deploy.local.child import Child, Program
from tests.fault.bridges import running_bridge
from tests.support.freeze import frozen
from tests.support.load import Load
from tests.support.person import Person
from tests.support.rabbitmq import NEEDED, RabbitMQ
from tests.support.servers import MariaDB, Mongo, Redis
from tests.support.stack import HIGH_LIMITS, Stack
from tests.support.wait import patience, wait_until

# A consumer that holds few messages leaves the others on the queue, where a test can count them.
BATCH = 10
# Longer than the supervisor ever waits before it starts a process again.
RESTART_SECONDS = 60.0
# A few batches take that long.
WORKING_SECONDS = 0.1
_bridges = itertools.count(1)
PEOPLE = ("ann", "ben", "cem", "reader")


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter."""

    message_id: str
    reason: str
    consumer: str


class System:
    """The servers, each free to be broken, and the processes of chatbus on them."""

    def __init__(
        self, rabbitmq: RabbitMQ, redis: Redis, mongo: Mongo, mariadb: MariaDB, folder: Path
    ) -> None:
        self.rabbitmq = rabbitmq
        self.redis = redis
        self.mongo = mongo
        self.mariadb = mariadb
        self.folder = folder
        self.broker_url = rabbitmq.fresh_vhost(NEEDED, outlives_module=True)
        self.stack = Stack(
            folder,
            {
                "BROKER_URL": self.broker_url,
                "REDIS_URL": redis.fresh_database(),
                "MONGO_URL": mongo.fresh_database(),
                "DATABASE_URL": mariadb.fresh_database(),
                "CONSUMER_BATCH": str(BATCH),
                # All that come here come from one address.
                "BRIDGE_SOCKETS_PER_ADDRESS": "100000",
                **HIGH_LIMITS,
                # One reader is invited by every test.
                "INVITATIONS_PER_ADDRESS": "10000",
                "INVITATIONS_PER_DAY": "10000",
            },
        )
        self._observer = self.connect()
        self._people: list[Person] = []

    def start(self) -> None:
        self.stack.start()
        self.stack.wait_until_ready()
        self._people = [Person.registered(self.stack.base_url, name) for name in PEOPLE]

    def close(self) -> None:
        """Stops the processes; the servers, and what is on them, are the caller's."""
        self.stack.close()

    def load(self, rate: float = 8.0, bridge_url: str | None = None) -> Load:
        """The same people in rooms of its own, ``rate`` messages a second in each."""
        *writers, reader = self._people
        mongo_url = self.stack.settings()["MONGO_URL"]
        return Load(writers, reader, mongo_url=mongo_url, rate=rate, bridge_url=bridge_url)

    @property
    def vhost(self) -> str:
        return self.broker_url.rpartition("/")[2]

    def waiting(self, queue: Queue) -> int:
        """How many messages lie on ``queue`` that no consumer has taken."""
        return self._declared(queue).message_count

    def consumers(self, queue: Queue) -> int:
        """How many consumers get messages of ``queue``; none that merely stands by."""
        return self._declared(queue).consumer_count

    def _declared(self, queue: Queue) -> pika.spec.Queue.DeclareOk:
        """Asks once more on a new connection: the tests break connections, this one too."""
        try:
            return _declared(self._observer, queue)
        except pika.exceptions.AMQPError:
            self._observer = self.connect()
            return _declared(self._observer, queue)

    def connect(self) -> pika.BlockingConnection:
        """A connection of the test's own."""
        parameters = pika.URLParameters(self.broker_url)
        parameters.heartbeat = 0  # nobody tends it between two questions
        return pika.BlockingConnection(parameters)

    def subscriptions(self, queue: Queue) -> dict[str, bool]:
        """The channels of all consumers of ``queue``, and whether each is active."""
        return self.rabbitmq.subscriptions(self.vhost, queue.name)

    def wait_until_holding(self, queue: Queue) -> None:
        """Waits until messages stay on ``queue`` though it has a consumer: that one is frozen,
        and has all in hand that it may have."""
        assert self.consumers(queue)
        wait_until(lambda: self.waiting(queue) > BATCH, what=f"messages wait on {queue.name}")

    def kill(self, *names: str) -> None:
        """SIGKILLs consumers of the stack that have messages in hand, and returns when they run
        again.

        They are stopped until something has piled up, and die within a moment of going on: some
        before they do anything, some with a batch half done.
        """
        pids = {name: self.stack.pid_of(name) for name in names}
        with ExitStack() as stack:
            for pid in pids.values():
                stack.enter_context(frozen(pid))
            for name in names:
                self.wait_until_holding(CONSUMERS[name])
        time.sleep(random.uniform(0, WORKING_SECONDS))
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        for name, pid in pids.items():
            self._wait_until_replaced(name, pid)

    def _wait_until_replaced(self, name: str, pid: int) -> None:
        def runs_again() -> bool:
            return self.stack.processes().get(name, pid) != pid

        wait_until(runs_again, RESTART_SECONDS, f"{name} runs again")
        wait_until(lambda: self.consumers(CONSUMERS[name]), what=f"{name} consumes again")

    def queues(self) -> list[str]:
        """The names of all queues."""
        return self.ctl("list_queues", "--no-table-headers", "name").split()

    def dead_letters(self, queue: Queue) -> list[Letter]:
        """What lies among the dead letters of ``queue``; they stay there."""
        assert queue.dead_letters
        letters = []
        with self.connect() as connection:
            channel = connection.channel()
            while True:
                method, properties, _ = channel.basic_get(queue.dead_letters.name)
                if method is None:
                    return letters
                reason, consumer = (properties.headers[key] for key in ("x-reason", "x-consumer"))
                letters.append(Letter(properties.message_id, reason, consumer))

    def ctl(self, command: str, *arguments: str) -> str:
        return self.rabbitmq.ctl(command, "--vhost", self.vhost, *arguments)

    def is_ready(self) -> bool:
        """Whether the web tier says that it can work."""
        try:
            return requests.get(f"{self.stack.base_url}/health/ready", timeout=patience(10)).ok
        except requests.RequestException:
            return False

    @contextmanager
    def bridge(self, port: int, **settings: str) -> Iterator[Child]:
        """One more bridge, which listens to Redis when the block begins."""
        log = self.folder / f"bridge-{next(_bridges)}.log"
        environment = self.stack.settings() | {"BRIDGE_PORT": str(port), "OPS_PORT": "0"} | settings
        with running_bridge(environment, log) as child:
            yield child

    @contextmanager
    def second(self, name: str) -> Iterator[Child]:
        """Another instance of a consumer."""
        log = self.folder / f"{name}-2.log"
        command = (sys.executable, "-P", "-m", "deploy.cli", "run", name)
        environment = self.stack.settings() | {"CONSUMER_INSTANCE": "2"}
        child = Child(Program(f"{name}-2", command, environment, log))
        child.start()
        try:
            wait_until(lambda: f"consuming chat.{name}" in log.read_text(), what="it consumes")
            yield child
        finally:
            child.kill()
            wait_until(lambda: child.has_exited() or not child.running, what="it is killed")
            child.close()


def _declared(connection: pika.BlockingConnection, queue: Queue) -> pika.spec.Queue.DeclareOk:
    with connection.channel() as channel:
        return channel.queue_declare(queue.name, passive=True).method


def refuses(load: Load, seconds: float) -> None:
    """Nothing is answered 202 for so long: there is nobody who could have kept it."""
    begin = time.monotonic()
    load.wait_for_refusal()
    accepted = load.ledger.accepted
    load.run_for(max(1.0, seconds - (time.monotonic() - begin)))
    assert load.ledger.accepted == accepted, "a false 202"
