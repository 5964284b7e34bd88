"""Brokers, gateways and request workers as real processes, for the tests of held requests."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pika
import pytest
import redis
import requests

from tests.conftest import run_server
from tests.support.broker import waiting
from tests.support.ports import HOST, free_port
from tests.support.process import Process, Record
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import Redis
from tests.support.wait import patience, wait_until


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
    return broker_on(server)


def broker_on(server: Redis | RabbitMQ) -> Broker:
    return RedisBroker(server) if isinstance(server, Redis) else RabbitBroker(server)


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
    """Gateways and workers on one broker. Those that last are for all tests of a module, to spare
    their starts; the others end with the test."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker = broker
        self._folder = folder
        self._runs_file = folder / "runs"
        self._runs = Record(self._runs_file)
        self._processes: list[Process] = []
        self._of_test: list[Process] = []
        self._gateways: dict[tuple[tuple[str, str], ...], Gateway] = {}
        self._worker: Process | None = None

    def gateway(self, **settings: str) -> Gateway:
        """A gateway that ends with the test."""
        gateway = self._start_gateway(settings)
        self._of_test.append(gateway)
        return gateway

    def worker(self, **settings: str) -> Process:
        """A worker that ends with the test."""
        worker = self._start_worker(settings)
        self._of_test.append(worker)
        return worker

    def lasting_gateway(self, **settings: str) -> Gateway:
        """The gateway with these settings that lasts. No test may end it."""
        key = tuple(sorted(settings.items()))
        if key not in self._gateways:
            self._gateways[key] = self._start_gateway(settings)
        return self._gateways[key]

    def lasting_worker(self) -> Process:
        """The worker that lasts until a test ends it; then a new one. It has one thread."""
        if self._worker is None or not self._worker.running:
            self._worker = self._start_worker({})
        return self._worker

    def stop_lasting_worker(self) -> None:
        """Returns when no worker runs that lasts."""
        if self._worker and self._worker.running:
            self._worker.stop()

    def runs(self) -> list[str]:
        """What the application was asked since the test began, in order."""
        return self._runs.read().splitlines()

    def begin_test(self) -> None:
        self._runs.begin_test()
        for process in self._processes:
            process.log.begin_test()

    def end_test(self) -> None:
        """Ends the test's own processes, and not by a kill: RabbitMQ could hand a killed worker
        one more request, which is the next test's."""
        while self._of_test:
            process = self._of_test.pop()
            if process.running:
                process.stop()

    def close(self) -> None:
        for process in self._processes:
            process.close()

    def _start_gateway(self, settings: dict[str, str]) -> Gateway:
        return self._started(Gateway(self._log(), self._settings(settings)))

    def _start_worker(self, settings: dict[str, str]) -> Process:
        defaults = {
            "WSGI_APPLICATION": "tests.contract.echo_app:application",
            "ECHO_LOG": str(self._runs_file),
            "WORKER_THREADS": "1",
        }
        settings = self._settings(defaults | settings)
        return self._started(Process("request_worker", self._log(), settings))

    def _settings(self, settings: dict[str, str]) -> dict[str, str]:
        return {"BROKER_URL": self.broker.url, **settings}

    def _log(self) -> Path:
        return self._folder / f"log{len(self._processes)}"

    def _started(self, process: AnyProcess) -> AnyProcess:
        self._processes.append(process)
        return process


@pytest.fixture(scope="module")
def site_of_module(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(broker, tmp_path_factory.mktemp("site"))
    yield site
    site.close()
    broker.clear()


@pytest.fixture
def site(site_of_module: Site) -> Iterator[Site]:
    site_of_module.begin_test()
    yield site_of_module
    site_of_module.end_test()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as executor:
        yield executor


Hold = Callable[[Gateway, str], tuple[Future[requests.Response], Path]]


@pytest.fixture
def hold(site: Site, pool: ThreadPoolExecutor, tmp_path: Path) -> Iterator[Hold]:
    """Sends a request by the given method that keeps the worker busy until the file that is
    returned exists, at the latest until the test ends."""
    released = tmp_path / "released"

    def send(gateway: Gateway, method: str) -> tuple[Future[requests.Response], Path]:
        answer = pool.submit(gateway.request, method, f"/hold?until={released}")
        wait_until(lambda: f"{method} /hold" in site.runs(), what="the run")
        return answer, released

    yield send
    released.touch()
