"""TLS: a client sends nothing to a server that does not prove to be the host of the URL.

Every client connects to a stranger, whose certificate is signed by an unknown authority or is for
another host, and to a real server with a certificate of a private authority.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import MySQLdb
import pymongo
import pytest
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from bridge.hub.pubsub import PubSub
from bus.errors import BusError
from bus.message import Message
from bus.publishing import Publisher
from bus.rooms.log_writer import RoomLogWriter
from bus.rooms.redis_client import answering, connect_async
from bus.runtime.settings import Environment
from bus.topology import MONGO_WRITER
from bus.transport.factory import connect_admin, declare, subscribe
from bus.transport.rabbitmq.connection import RabbitChannel
from bus.transport.rabbitmq.management_api import Management
from consumers.mongo_writer import open_messages
from tests.conftest import run_server
from tests.support.certificates import Authority, Certificate
from tests.support.ports import HOST
from tests.support.stranger import Stranger, stranger
from tests.support.tls_servers import TlsMariaDB, TlsRabbitMQ, TlsRedis
from webapp.project.configuration import settings_from

SECRET = "hunter2"
FAILURES = (BusError, RedisError, PyMongoError, MySQLdb.Error)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.certificate("server", HOST)


@pytest.fixture(scope="module", params=["unknown authority", "another host"])
def suspect(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Certificate:
    if request.param == "another host":
        return authority.certificate("other", "other.example")
    return Authority(tmp_path_factory.mktemp("stranger")).certificate("stranger", HOST)


def _broker(environment: Environment) -> None:
    with closing(connect_admin(environment.broker_url())) as admin:
        admin.ping()


def _channel(environment: Environment) -> None:
    RabbitChannel(environment.broker_url(), heartbeat=0).close()


def _api(environment: Environment) -> None:
    Management.from_environment(environment).queues()


def _redis(environment: Environment) -> None:
    with closing(RoomLogWriter.connect(environment.redis_url())) as log:
        log.ping()


def _redis_async(environment: Environment) -> None:
    async def ping() -> None:
        async with connect_async(environment.redis_url()) as client, answering():
            await client.ping()

    asyncio.run(ping())


def _pubsub(environment: Environment, seconds: float = 1.0) -> None:
    async def listen() -> None:
        async with connect_async(environment.redis_url()) as client, asyncio.timeout(seconds):
            pubsub = PubSub(client, heartbeat=1.0, silence=5.0)
            running = asyncio.create_task(pubsub.run())
            try:
                await pubsub.connected.wait()
            finally:
                running.cancel()

    try:
        asyncio.run(listen())
    except TimeoutError as error:
        raise BusError("not connected") from error


def _mongo(environment: Environment) -> None:
    database = open_messages(environment.mongo_url()).database
    with closing(database.client), pymongo.timeout(1.0):
        database.command("ping")


CLIENTS = {
    "kombu, RabbitMQ": (_broker, "BROKER_URL", "amqps://u:{secret}@{address}/"),
    "pika": (_channel, "BROKER_URL", "amqps://u:{secret}@{address}/"),
    "kombu, Redis": (_broker, "BROKER_URL", "rediss://:{secret}@{address}/0"),
    "management API": (_api, "BROKER_API_URL", "https://u:{secret}@{address}"),
    "redis-py": (_redis, "REDIS_URL", "rediss://:{secret}@{address}/0"),
    "redis-py, asyncio": (_redis_async, "REDIS_URL", "rediss://:{secret}@{address}/0"),
    "pub/sub": (_pubsub, "REDIS_URL", "rediss://:{secret}@{address}/0"),
    "MongoDB": (
        _mongo,
        "MONGO_URL",
        "mongodb://u:{secret}@{address}/c?tls=true",
    ),
}
Client = Callable[[Environment], None]


def _settings(name: str, url: str, server: Stranger, authority: Authority) -> Environment:
    address = f"{HOST}:{server.port}"
    broker = {"BROKER_URL": "amqp://u@h/", "TLS_CA_FILE": str(authority.file)}
    return Environment(broker | {name: url.format(secret=SECRET, address=address)})


@pytest.mark.parametrize(("connect", "name", "url"), CLIENTS.values(), ids=CLIENTS)
def test_a_stranger_is_sent_nothing(
    connect: Client, name: str, url: str, suspect: Certificate, authority: Authority
) -> None:
    with stranger(suspect) as server:
        with pytest.raises(FAILURES) as raised:
            connect(_settings(name, url, server, authority))
        assert server.attempts > 0
        assert (server.handshakes, server.heard) == (0, b"")
    assert SECRET not in f"{raised.value!s} {raised.value!r}"


@pytest.mark.parametrize(("connect", "name", "url"), CLIENTS.values(), ids=CLIENTS)
def test_without_a_private_authority_those_of_the_system_decide(
    connect: Client, name: str, url: str, certificate: Certificate, authority: Authority
) -> None:
    with stranger(certificate) as server:
        known = _settings(name, url, server, authority)
        with pytest.raises(FAILURES):
            connect(Environment({**known.values, "TLS_CA_FILE": ""}))
        assert (server.handshakes, server.heard) == (0, b"")


def test_mongodb_talks_to_a_server_of_the_private_authority(
    certificate: Certificate, authority: Authority
) -> None:
    """There is no real one with TLS here; what it is sent first proves the trust."""
    connect, name, url = CLIENTS["MongoDB"]
    with stranger(certificate) as server:
        with pytest.raises(FAILURES):
            connect(_settings(name, url, server, authority))
        assert b"ismaster" in server.heard.lower() or b"hello" in server.heard.lower()


@pytest.fixture(scope="module")
def rabbit(certificate: Certificate) -> Iterator[TlsRabbitMQ]:
    yield from run_server(TlsRabbitMQ(certificate))


def test_rabbitmq_and_its_api_are_reached_by_tls(rabbit: TlsRabbitMQ, authority: Authority) -> None:
    settings = {
        "BROKER_URL": f"{rabbit.tls_url};{rabbit.tls_url}",
        "BROKER_API_URL": rabbit.tls_api_url,
        "TLS_CA_FILE": str(authority.file),
    }
    environment = Environment(settings)
    url = environment.broker_url()
    declare(url, [MONGO_WRITER])
    publisher = Publisher(url, [MONGO_WRITER])
    publisher.publish(
        Message(exchange="", routing_key=MONGO_WRITER.name, body=b"x", message_id="1", type="t")
    )
    publisher.close()
    with closing(subscribe(url, MONGO_WRITER, prefetch=1)) as subscription:
        assert [delivery.body for delivery in subscription.receive(1, 10.0)] == [b"x"]
    names = {queue.name for queue in Management.from_environment(environment).queues()}
    assert MONGO_WRITER.name in names


def test_the_second_host_is_verified_by_its_own_name(
    rabbit: TlsRabbitMQ, authority: Authority, suspect: Certificate
) -> None:
    """kombu's own failover asks for the first host's name at the second host."""
    with stranger(suspect) as first:
        url = f"amqps://u:{SECRET}@localhost:{first.port}/;{rabbit.tls_url}"
        settings = {"BROKER_URL": url, "TLS_CA_FILE": str(authority.file)}
        _broker(Environment(settings))
        assert first.heard == b""


@pytest.fixture(scope="module")
def redis_server(certificate: Certificate) -> Iterator[TlsRedis]:
    yield from run_server(TlsRedis(certificate))


@pytest.mark.parametrize("connect", [_redis, _redis_async, partial(_pubsub, seconds=20.0), _broker])
def test_redis_is_reached_by_tls(
    connect: Client, redis_server: TlsRedis, authority: Authority
) -> None:
    url = redis_server.url
    settings = {"REDIS_URL": url, "BROKER_URL": url, "TLS_CA_FILE": str(authority.file)}
    connect(Environment(settings))


@pytest.fixture(scope="module")
def mariadb(certificate: Certificate) -> Iterator[TlsMariaDB]:
    yield from run_server(TlsMariaDB(certificate))


def _mysql(url: str, authority: Authority) -> str:
    """The cipher of a connection as Django makes it."""
    required = {
        **{
            "BROKER_URL": "amqp://h",
            "MONGO_URL": "mongodb://h",
            "SECRET_KEY": f"{SECRET * 3}-0123456789",
        },
        "TICKET_KEYS": f"k:{'k' * 32}",
    }
    given = {"DATABASE_URL": url, "TLS_CA_FILE": str(authority.file)}
    database = settings_from(Environment(required | given))["DATABASES"]["default"]
    from django.db.backends.mysql.base import DatabaseWrapper

    django = DatabaseWrapper(database | {"TIME_ZONE": None})
    with closing(django.get_new_connection(django.get_connection_params())) as connection:
        cursor = connection.cursor()
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        return str(cursor.fetchone()[1])


def test_mysql_is_reached_by_tls(mariadb: TlsMariaDB, authority: Authority) -> None:
    assert _mysql(f"{mariadb.url}?ssl_mode=VERIFY_IDENTITY", authority)
    assert not _mysql(mariadb.url, authority)


def test_a_strange_mysql_is_refused(suspect: Certificate, authority: Authority) -> None:
    for server in run_server(TlsMariaDB(suspect)):
        with pytest.raises(MySQLdb.OperationalError, match=r"2026.*certificate"):
            _mysql(f"{server.url}?ssl_mode=VERIFY_IDENTITY", authority)
