"""The servers that tests start: each answers, keeps its data when killed, and leaves nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import kombu
import pymongo
import pytest
import redis

from tests.support.ports import HOST, is_open
from tests.support.proxy import Proxy
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import MariaDB, Redis
from tests.support.wait import patience, wait_until


def test_redis_keeps_its_data_when_killed() -> None:
    with Redis() as server:
        redis.Redis.from_url(server.url).set("key", "value")
        killed = server.pid
        server.kill()
        assert not is_open(server.port)
        server.start()
        assert server.pid != killed
        assert redis.Redis.from_url(server.url).get("key") == b"value"
    assert not is_open(server.port)
    assert not server.folder.exists()


def test_rabbitmq_has_a_process_and_hosts_of_its_own(rabbitmq: RabbitMQ) -> None:
    assert "beam" in os.readlink(f"/proc/{rabbitmq.pid}/exe")
    urls = [rabbitmq.fresh_vhost(), rabbitmq.fresh_vhost()]
    for url in urls:
        with kombu.Connection(url) as connection:
            connection.connect()
            assert not connection.default_channel.queue_declare("only-here").message_count
    assert "only-here" not in rabbitmq.ctl("list_queues")


def test_mariadb_speaks_utf8mb4(mariadb: MariaDB) -> None:
    url = mariadb.fresh_database()
    name = url.rpartition("/")[2]
    assert "utf8mb4" in mariadb.execute(f"SHOW CREATE DATABASE {name}")


def test_mariadb_shares_its_temporary_tables_with_no_other(mariadb: MariaDB) -> None:
    assert mariadb.execute("SELECT @@tmpdir").strip() == str(mariadb.folder)


def test_each_mongo_database_is_empty(mongo_server: Callable[[], str]) -> None:
    for url in (mongo_server(), mongo_server()):
        messages = pymongo.MongoClient(url).get_default_database()["messages"]
        assert messages.count_documents({}) == 0
        messages.insert_one({"_id": 1})


@pytest.fixture
def echo() -> socket.socket:
    """A listening socket whose one connection the test answers itself."""
    return socket.create_server((HOST, 0))


def test_proxy_holds_back_and_then_passes_on(echo: socket.socket) -> None:
    with echo, Proxy(echo.getsockname()[1]) as proxy:
        client = socket.create_connection((HOST, proxy.port), 5)
        server, _ = echo.accept()
        with client, server:
            server.settimeout(0.2)
            proxy.black_hole()
            client.sendall(b"held")
            wait_until(lambda: len(proxy.held) == 4, what="the proxy holds 4 bytes")
            with pytest.raises(TimeoutError):
                server.recv(4)
            proxy.forward()
            server.settimeout(patience(5))
            assert server.recv(4) == b"held"
    assert proxy.connections == 1


def test_proxy_resets(echo: socket.socket) -> None:
    with echo, Proxy(echo.getsockname()[1]) as proxy:
        client = socket.create_connection((HOST, proxy.port), 5)
        server, _ = echo.accept()
        with client, server:
            client.sendall(b"x")
            assert server.recv(1) == b"x"
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
