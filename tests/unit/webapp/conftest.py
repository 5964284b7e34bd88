"""Django on SQLite in memory, a Redis of its own as broker, and a MongoDB-compatible server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import django
import psutil
import pytest
from django.conf import LazySettings
from django.core.cache import cache
from django.test import Client

from bus import events, topology
from bus.events import Event
from bus.transport import connect_admin, declare, subscribe
from tests.conftest import run_server
from tests.support.servers import Mongo, Redis
from tests.support.wait import patience

START = (
    "import os, sys, importlib; from bus.runtime.settings import Environment;"
    "importlib.import_module(sys.argv[1]).main(Environment(os.environ))"
)
WAIT_SECONDS = 30
PASSWORD = "correct horse battery 9"
_redis = Redis()
_mongo = Mongo()
SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "webapp.project.settings",
    "DATABASE_URL": "sqlite://:memory:",
    "BROKER_URL": _redis.url,
    "MONGO_URL": _mongo.url,
    "SECRET_KEY": "only-for-tests-0123456789-abcdefgh",
    "TICKET_KEYS": f"test:{'k' * 32}",
    "ALLOWED_HOSTS": "testserver,chat.example.org",
    "BRIDGE_URL": "",
    "HTTPS": "",
    "DEBUG": "",
}
# Only while the settings are read: other suites start processes with settings of their own.
with mock.patch.dict(os.environ, SETTINGS):
    django.setup()
    # Both need the settings. Whatever other suites this process runs, they make ids by this clock.
    from tests.unit.webapp.machine_time import MachineTime
    from webapp.clock.shared import shared_clock

    shared_clock.source = MachineTime()


@pytest.fixture(autouse=True)
def quick_passwords(settings: LazySettings) -> None:
    """The real hasher takes its time on purpose."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def fresh_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts with nothing counted."""
    from webapp.limits import services
    from webapp.limits.buckets import open_buckets

    cache.clear()
    monkeypatch.setattr(services, "buckets", open_buckets(None))


class Broker:
    """The Redis that the web tier publishes to, and what has arrived there."""

    def __init__(self, server: Redis) -> None:
        self._server = server
        self._is_running = True

    def stop(self) -> None:
        self._server.kill()
        self._is_running = False

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def pid(self) -> int:
        return self._server.pid

    @property
    def other_database(self) -> str:
        """The URL of a part of it that no broker uses."""
        return self._server.database(1)

    def declare(self) -> None:
        declare(self._server.url, topology.EVENT_QUEUES)

    def unbind(self, queue: topology.Queue) -> None:
        """Takes ``queue`` away: in Redis a queue without bindings is none."""
        admin = connect_admin(self._server.url)
        for exchange in {binding.exchange.name for binding in queue.bindings}:
            table = f"_kombu.binding.{exchange}"
            entries = [
                row for row in admin.channel.client.smembers(table) if queue.name in str(row)
            ]
            admin.channel.client.srem(table, *entries)
        admin.close()

    def take_only(self, routing_key: str) -> None:
        """Lets no queue take anything else."""
        for queue in topology.EVENT_QUEUES:
            self.unbind(queue)
        binding = topology.Binding(topology.EVENTS, routing_key)
        declare(self._server.url, [topology.Queue(topology.REDIS_PUBLISHER.name, (binding,))])

    def start(self) -> None:
        if not self._is_running:
            self._server.start()
            self._is_running = True

    def taken(self) -> list[Event]:
        """Takes all events off the queue of the room logs; those of rooms, in order."""
        found = self.everything()
        return [event for event in found if not isinstance(event, events.UserEnvelope)]

    def everything(self) -> list[Event]:
        """As ``taken``, with the events on users' own channels."""
        source = subscribe(self._server.url, topology.REDIS_PUBLISHER, prefetch=1_000)
        try:
            deliveries = source.receive(1_000, 0.01)
            source.ack(deliveries)
            return [events.decode(delivery.body) for delivery in deliveries]
        finally:
            source.close()


@pytest.fixture(scope="session")
def _broker_server() -> Iterator[Redis]:
    yield from run_server(_redis)


@pytest.fixture
def broker(_broker_server: Redis) -> Iterator[Broker]:
    """Empty, with the queues, which the web tier leaves to others to declare."""
    broker = Broker(_broker_server)
    broker.declare()
    broker.taken()
    yield broker
    broker.start()


@pytest.fixture(scope="session")
def mongo_server_of_web() -> Iterator[Mongo]:
    yield from run_server(_mongo)


class Browser(Client):
    """A test client that sends and reads JSON, for one user."""

    def __init__(self, user: object = None, **options: object) -> None:
        super().__init__(**options)
        self.user = user
        if user:
            self.force_login(user)

    def send(self, method: str, path: str, content: object = None, **headers: str):
        return self.generic(
            method,
            path,
            b"" if content is None else events.msgspec.json.encode(content),
            content_type="application/json",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )

    def join(self, owner: Browser, path: str) -> None:
        """Is invited to the room at ``path`` by ``owner``, and accepts."""
        email = {"email": self.user.email}
        assert owner.send("POST", f"{path}/invitations", email).status_code == 202
        offered = self.send("GET", "/api/invitations").json()["invitations"]
        [invitation] = [each["id"] for each in offered if path.endswith(each["room"]["id"])]
        assert self.send("POST", f"/api/invitations/{invitation}/accept").status_code == 200


@pytest.fixture
def browser(transactional_db: None, broker: Broker) -> Callable[[str], Browser]:
    """Makes a logged-in user by name; the confirmed address is ``<name>@example.org``."""
    from allauth.account.models import EmailAddress

    from webapp.accounts.models import User

    def make(name: str) -> Browser:
        user = User.objects.create_user(f"{name}@example.org", name, PASSWORD)
        EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
        return Browser(user)

    return make


@pytest.fixture
def set_read_only(transactional_db: None) -> Iterator[Callable[[bool], None]]:
    """Whether the database takes no writes; it takes them again after the test."""
    from django.db import connection

    def switch(value: bool) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA query_only = {int(value)}")

    yield switch
    switch(False)


@pytest.fixture
def room(browser: Callable[[str], Browser]) -> tuple[Browser, str]:
    """A room's owner and the room's path in the API."""
    owner = browser("alice")
    room_id = owner.send("POST", "/api/rooms", {"name": "Lighthouse"}).json()["id"]
    return owner, f"/api/rooms/{room_id}"


class Started:
    """A process that has said READY."""

    def __init__(self, module: str, folder: Path, **settings: str) -> None:
        self.settings = settings
        address = str(folder / f"notify.{module}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
            notifications.bind(address)
            notifications.settimeout(patience(WAIT_SECONDS))
            ours = {"DATABASE_URL": f"sqlite:///{folder}/db.sqlite3", "NOTIFY_SOCKET": address}
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, module],
                env={**os.environ, **SETTINGS, **ours, **settings},
                stderr=subprocess.PIPE,
                text=True,
            )
            self.said = notifications.recv(1024).decode()

    def kill(self) -> None:
        """SIGKILL to it and its children, as when the machine fails."""
        own = psutil.Process(self.process.pid)
        for process in (own, *own.children(recursive=True)):
            process.kill()
        self.process.communicate()

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode, log


@pytest.fixture
def start(tmp_path: Path) -> Iterator[type[Started]]:
    started: list[Started] = []

    def start_one(module: str, **settings: str) -> Started:
        started.append(Started(module, tmp_path, **settings))
        return started[-1]

    yield start_one
    for one in started:
        if one.process.poll() is None:
            one.kill()
