"""Brokers, gateways and request workers as real processes, for the tests of held requests."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pika
import pytest
import redis
import requests

from deploy.local.child import Child, Program
from tests.conftest import run_server
from tests.support.broker import waiting
from tests.support.ports import HOST, free_port
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import Redis
from tests.support.wait import patience, wait_until

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0


class RedisBroker:
    """An empty database of a Redis server that the test may stop."""

    def __init__(self, server: Redis) -> None:
        self.server = server
        self.url = server.fresh_database()

    def waiting(self) -> int:
        """How many requests lie on the queue."""
        return waiting(self.url, "web.requests")

    def clear(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()

    def is_settled(self) -> bool:
        """Whether nothing waits, and nobody has anything to acknowledge."""
        with redis.Redis.from_url(self.url) as client:
            return not any(client.scan_iter("web.requests*"))

    def forget_deliveries(self) -> None:
        """What workers have taken lies on the queue again, as if it had never been taken: a
        killed Redis may lose what it wrote last."""
        with redis.Redis.from_url(self.url) as client:
            (taken,) = client.scan_iter("web.requests.taken.*")
            assert client.lmove(taken, "web.requests", "LEFT", "RIGHT")


class RabbitBroker:
    """An empty virtual host of a RabbitMQ node that the test may stop."""

    def __init__(self, server: RabbitMQ) -> None:
        self.server = server
        self.url = server.fresh_vhost()

    def waiting(self) -> int:
        """How many requests lie on the queue."""
        return waiting(self.url, "web.requests")

    def clear(self) -> None:
        """Deleting drops also what a killed worker has not given back yet."""
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            connection.channel().queue_delete("web.requests")

    def is_settled(self) -> bool:
        """Whether nothing waits that no worker has taken."""
        return self.waiting() == 0

    def forget_deliveries(self) -> None:
        """Nothing to do: a killed RabbitMQ forgets the requests as well."""


Broker = RedisBroker | RabbitBroker


@pytest.fixture(scope="module", params=["redis", "amqp"])
def server(request: pytest.FixtureRequest) -> Iterator[Redis | RabbitMQ]:
    """A server that tests here may stop and start."""
    if request.param == "redis":
        yield from run_server(Redis())
    else:
        yield request.getfixturevalue("breakable_rabbitmq")


@pytest.fixture(scope="module")
def broker(server: Redis | RabbitMQ) -> Broker:
    return RedisBroker(server) if isinstance(server, Redis) else RabbitBroker(server)


class Process:
    """One process of chatbus, ready when made."""

    def __init__(self, name: str, log: Path, settings: dict[str, str]) -> None:
        self._log = log
        self._child = Child(
            Program(
                name,
                (sys.executable, "-P", "-m", "deploy.cli", "run", name),
                environment={**os.environ, "PYTHONPATH": str(ROOT), **settings},
                log=log,
            )
        )
        self._child.start()
        self._child.notifications.settimeout(patience(START_SECONDS))
        self._child.notified()

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def terminate(self) -> None:
        os.kill(self._child.pid, signal.SIGTERM)

    def kill(self) -> None:
        self._child.kill()
        self.wait()

    def wait(self) -> int:
        """Returns the exit code when the process has ended."""
        wait_until(self._child.has_exited, what=f"{self._child.name} ends")
        assert self._child.exit_code is not None
        return self._child.exit_code

    def close(self) -> None:
        if self._child.running:
            self.kill()
        self._child.close()


class Gateway(Process):
    """A gateway, with the browser's side of it."""

    def __init__(self, log: Path, settings: dict[str, str]) -> None:
        self.port = free_port()
        super().__init__("gateway", log, {**settings, "GATEWAY_PORT": str(self.port)})
        wait_until(lambda: self.get("/gateway/health/ready").ok, what="the gateway is ready")

    def request(self, method: str, path: str, **arguments: object) -> requests.Response:
        url = f"http://{HOST}:{self.port}{path}"
        return requests.request(
            method, url, timeout=patience(60), allow_redirects=False, **arguments
        )

    def get(self, path: str, **arguments: object) -> requests.Response:
        return self.request("GET", path, **arguments)

    def raw(self, sent: bytes) -> bytes:
        """Everything that comes back on one connection until the gateway closes it."""
        with closing(socket.create_connection((HOST, self.port), 30)) as connection:
            connection.sendall(sent)
            return b"".join(iter(lambda: connection.recv(65_536), b""))


AnyProcess = TypeVar("AnyProcess", bound=Process)


class Site:
    """Gateways and workers on one broker, ended with the test."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker = broker
        self.folder = folder
        self._runs = folder / "runs"
        self._runs.touch()
        self._processes: list[Process] = []

    def gateway(self, **settings: str) -> Gateway:
        return self._started(Gateway(self._log(), self._settings(settings)))

    def worker(self, **settings: str) -> Process:
        defaults = {
            "WSGI_APPLICATION": "tests.contract.echo_app:application",
            "ECHO_LOG": str(self._runs),
            "WORKER_THREADS": "1",
        }
        settings = self._settings(defaults | settings)
        return self._started(Process("request_worker", self._log(), settings))

    def runs(self) -> list[str]:
        """What the application was asked, in order."""
        return self._runs.read_text().splitlines()

    def close(self) -> None:
        for process in self._processes:
            process.close()

    def _settings(self, settings: dict[str, str]) -> dict[str, str]:
        return {"BROKER_URL": self.broker.url, **settings}

    def _log(self) -> Path:
        return self.folder / f"log{len(self._processes)}"

    def _started(self, process: AnyProcess) -> AnyProcess:
        self._processes.append(process)
        return process


@pytest.fixture
def site(broker: Broker, tmp_path: Path) -> Iterator[Site]:
    site = Site(broker, tmp_path)
    yield site
    site.close()
    broker.clear()
