"""Real servers and running stacks for every suite, started when a test first asks for them.

A test whose server is not installed is skipped, and the last line of the run says which suites
that touched; where CI is set it fails.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

from tests.support.fail_point import FailPoint
from tests.support.rabbitmq import NEEDED, RabbitMQ
from tests.support.scheduling import (
    pytest_xdist_auto_num_workers,
    pytest_xdist_make_scheduler,
    turn,
)
from tests.support.servers import MariaDB, Mongo, Redis, Secantus, Server, ServerMissing
from tests.support.stack import Stack

__all__ = ["pytest_xdist_auto_num_workers", "pytest_xdist_make_scheduler"]

AnyServer = TypeVar("AnyServer", bound=Server)
StartStack = Callable[..., Stack]
# The RabbitMQ nodes that run.
NODES: list[RabbitMQ] = []
MISSING = "server not installed: "


def fail_or_skip(missing: ServerMissing) -> NoReturn:
    reason = f"{MISSING}{missing}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def run_server(server: AnyServer) -> Iterator[AnyServer]:
    with ExitStack() as running:
        missing = None
        try:
            running.enter_context(server)
        except ServerMissing as error:
            missing = error
        if missing:
            fail_or_skip(missing)
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    yield from run_server(Redis())


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    yield from run_node()


@pytest.fixture(scope="session")
def breakable_rabbitmq() -> Iterator[RabbitMQ]:
    """Another node, which a test may stop, kill and starve, and must leave as it was."""
    yield from run_node()


def run_node() -> Iterator[RabbitMQ]:
    for node in run_server(RabbitMQ()):
        NODES.append(node)
        yield node
        NODES.remove(node)


@pytest.fixture(scope="module", autouse=True)
def vhosts_of_module() -> Iterator[None]:
    """What a module has left on RabbitMQ goes with it."""
    yield
    for node in NODES:
        node.end_module()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    yield from run_server(MariaDB())


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[Callable[[], str]]:
    """Makes the URL of a database of its own: on the server of MONGO_URL, or on one started."""
    given = os.environ.get("MONGO_URL")
    if given:
        yield lambda: with_database(given, f"chatbus_test_{uuid.uuid4().hex}")
    else:
        for server in run_server(Mongo()):
            yield server.fresh_database


@pytest.fixture
def mongo(mongo_server: Callable[[], str]) -> str:
    """The URL of an empty database."""
    return mongo_server()


@pytest.fixture(scope="session")
def secantus() -> Iterator[Secantus]:
    """A second server for the suites of what writes and reads the history."""
    if sys.version_info >= (3, 14):
        pytest.skip("SecantusDB has no wheel for this Python")
    yield from run_server(Secantus())


@pytest.fixture
def fail_point(secantus: Secantus) -> Iterator[FailPoint]:
    fail_point = FailPoint(secantus.url)
    yield fail_point
    fail_point.close()


@pytest.fixture(scope="module", params=["amqp", "redis"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """An empty broker of each kind: a virtual host of RabbitMQ, a database of Redis."""
    if request.param == "amqp":
        rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
        return rabbitmq.fresh_vhost()
    redis: Redis = request.getfixturevalue("redis_server")
    return redis.fresh_database()


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartStack]:
    """Starts a ``chatbus up`` with the given settings and waits until it is ready."""
    started: list[Stack] = []

    def start(*, folder: Path | None = None, port: int | None = None, **settings: str) -> Stack:
        running = Stack(folder or tmp_path_factory.mktemp("stack"), settings, port)
        started.append(running)
        running.start()
        running.wait_until_ready()
        return running

    yield start
    for running in started:
        running.close()


@pytest.fixture(scope="session", params=["embedded", "real"])
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A running ``chatbus up``: on its embedded servers, then on real ones."""
    settings = _real_servers(request) if request.param == "real" else {}
    running = Stack(tmp_path_factory.mktemp(request.param), settings)
    try:
        running.start()
        running.wait_until_ready()
        yield running
    finally:
        running.close()


def _real_servers(request: pytest.FixtureRequest) -> dict[str, str]:
    return {
        "BROKER_URL": request.getfixturevalue("rabbitmq").fresh_vhost(NEEDED, outlives_module=True),
        "REDIS_URL": request.getfixturevalue("redis_server").fresh_database(),
        "DATABASE_URL": request.getfixturevalue("mariadb").fresh_database(),
        "MONGO_URL": request.getfixturevalue("mongo_server")(),
    }


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: turn(item.nodeid))


def with_database(url: str, name: str) -> str:
    """``url`` of MongoDB with another database; its options stay."""
    server, _, options = url.partition("?")
    scheme, _, rest = server.partition("://")
    hosts = rest.partition("/")[0]
    return f"{scheme}://{hosts}/{name}" + (f"?{options}" if options else "")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """The last line of the run: which suites were not run for want of a server."""
    result = yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter:
        missing = _missing_servers(reporter.stats.get("skipped", []))
        for server, suites in sorted(missing.items()):
            reporter.write_line(
                f"NOT RUN without {server}: parts of {', '.join(sorted(suites))} "
                "(deploy/install-servers.sh installs it)"
            )
    return result


def _missing_servers(skipped: list[pytest.TestReport]) -> dict[str, set[str]]:
    missing: dict[str, set[str]] = {}
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _, found, server = reason.partition(MISSING)
        if found:
            missing.setdefault(server, set()).add(report.nodeid.rpartition("/")[0])
    return missing
