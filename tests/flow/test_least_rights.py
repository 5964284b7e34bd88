"""Each process does all its work with its own user on each server, who may do nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, suppress
from urllib.parse import urlsplit

import pika
import pymongo
import pytest
import redis
import requests
from pika.exceptions import ChannelClosedByBroker
from pymongo.errors import OperationFailure

from bus.topology import MONGO_WRITER
from tests.conftest import run_server
from tests.support.broker import waiting
from tests.support.person import Person
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import MariaDB
from tests.support.users import MongoWithUsers, RedisWithUsers, Secrets, Site
from tests.support.wait import patience, wait_until


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ, mariadb: MariaDB
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    secrets = Secrets(folder)
    for redis_server in run_server(RedisWithUsers(secrets)):
        for mongo in run_server(MongoWithUsers(secrets)):
            site = Site(secrets, rabbitmq, redis_server, mariadb, mongo)
            try:
                site.start(folder / "log")
                yield site
            finally:
                site.stop()


@pytest.fixture(scope="module")
def alice(site: Site) -> Person:
    return Person.registered(site.url, "alice")


def test_a_message_takes_all_its_ways(site: Site, alice: Person) -> None:
    room = alice.make_room("garden")
    with alice.open_socket() as socket:
        socket.subscribe(room)
        alice.post(room, "by the web tier")
        socket.message("by the web tier")
        alice.site = site.gateway_url
        alice.post(room, "by the gateway")
        socket.message("by the gateway")
        alice.site = site.url
    wait_until(lambda: len(alice.history(room)) == 2, what="the history has both")


def test_web_and_workers_count_together(site: Site, alice: Person) -> None:
    """Without a right to these keys in Redis, each would count alone."""
    room = alice.make_room("attic")
    url = site.settings("web")["REDIS_URL"]
    with redis.Redis.from_url(url, decode_responses=True) as client:
        alice.post(room, "by the web tier")
        bucket = f"web:{{limits}}:messages:room:60:{room}"
        full_at = [client.get(bucket)]
        alice.site = site.gateway_url
        alice.post(room, "by the gateway")
        alice.site = site.url
        full_at.append(client.get(bucket))
    assert None not in full_at
    assert full_at[0] != full_at[1]


def test_all_are_ready(site: Site) -> None:
    for address in (f"{site.url}/health/ready", f"{site.gateway_url}/gateway/health/ready"):
        answer = requests.get(address, timeout=patience(30))
        assert answer.status_code == 200, answer.text


def test_a_log_out_ends_the_socket(site: Site) -> None:
    person = Person.registered(site.url, "bob")
    with person.open_socket() as socket, suppress(Exception):
        person.submit("/rooms/", action="/accounts/logout/")
        while True:
            socket.connection.recv(timeout=patience(10))
    assert socket.connection.close_code == 4401


def publish(url: str, queue: str, body: bytes) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", queue, body, mandatory=True)


def test_operators_pause_and_see_dead_letters(site: Site) -> None:
    broker = site.settings("topology")["BROKER_URL"]
    assert "paused" in site.command("pause", "mongo_writer", user="topology")
    publish(broker, "chat.mongo_writer", b"no event")
    site.command("resume", "mongo_writer", user="topology")
    assert MONGO_WRITER.dead_letters
    dead = MONGO_WRITER.dead_letters.name
    wait_until(lambda: waiting(broker, dead) == 1, what="it is a dead letter")
    assert "dropped" in site.command("deadletters", "drop", "--all", user="topology")


def test_a_deleted_queue_comes_back_with_what_it_held(site: Site, alice: Person) -> None:
    room = alice.make_room("cellar")
    operator = pika.URLParameters(site.settings("topology")["BROKER_URL"])
    site.command("pause", "mongo_writer", user="topology")
    alice.post(room, "on the deleted queue")
    with pika.BlockingConnection(operator) as connection:
        connection.channel().queue_delete("chat.mongo_writer")
    site.command("resume", "mongo_writer", user="topology")
    wait_until(lambda: len(alice.history(room)) == 1, what="it is read from the archive")


REFUSED_BY_RABBITMQ = {
    "the gateway reads no events": (
        "gateway",
        lambda channel: channel.basic_get("chat.mongo_writer"),
    ),
    "a consumer deletes no other's queue": (
        "mongo_writer",
        lambda channel: channel.queue_delete("chat.redis_publisher"),
    ),
    "a consumer publishes no event": (
        "mongo_writer",
        lambda channel: channel.basic_publish("chat.events", "room.1.message.posted", b"{}"),
    ),
    "the web tier deletes no exchange": (
        "web",
        lambda channel: channel.exchange_delete("chat.events"),
    ),
    "the web tier reads nobody's request": (
        "web",
        lambda channel: channel.basic_get("web.requests"),
    ),
}


@pytest.mark.parametrize("what", REFUSED_BY_RABBITMQ)
def test_rabbitmq_refuses_all_else(site: Site, what: str) -> None:
    user, act = REFUSED_BY_RABBITMQ[what]
    parameters = pika.URLParameters(site.settings(user)["BROKER_URL"])
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
            act(channel)


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("bridge", ("GET", "web:1:x")),
        ("redis_publisher", ("SET", "ticket:x", "1")),
        ("redis_publisher", ("PUBLISH", "{sessions}:told", "x")),
        ("web", ("SET", "ticket:x", "1")),
        *((user, ("FLUSHALL",)) for user in ("web", "bridge", "redis_publisher")),
        ("web", ("CONFIG", "GET", "*")),
    ],
)
def test_redis_refuses_all_else(site: Site, user: str, words: tuple[str, ...]) -> None:
    with (
        redis.Redis.from_url(site.settings(user)["REDIS_URL"]) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.execute_command(*words)


def test_mongodb_refuses_all_else(site: Site) -> None:
    url = site.settings("web")["MONGO_URL"]
    with pymongo.MongoClient(url) as web:
        assert web.chat.messages.find_one({}), "the web tier reads"
        with pytest.raises(OperationFailure, match="not authorized"):
            web.chat.messages.delete_many({})
    with pymongo.MongoClient(site.settings("mongo_writer")["MONGO_URL"]) as writer:
        for act in (writer.list_database_names, lambda: writer.other.messages.find_one({})):
            with pytest.raises(OperationFailure, match="not authorized"):
                act()
    with (
        pymongo.MongoClient(f"mongodb://{url.rpartition('@')[2]}") as stranger,
        pytest.raises(OperationFailure),
    ):
        stranger.chat.messages.find_one({})


def test_mysql_lets_the_web_tier_change_no_table(site: Site) -> None:
    import MySQLdb

    url = urlsplit(site.settings("web")["DATABASE_URL"])
    place = {"host": url.hostname, "port": url.port, "database": url.path[1:]}
    connection = MySQLdb.connect(user=url.username, password=url.password, **place)
    with closing(connection), connection.cursor() as cursor:
        assert cursor.execute("SELECT 1 FROM accounts_user") >= 0
        for statement in ("DROP TABLE accounts_user", "CREATE TABLE mine (id INT)"):
            with pytest.raises(MySQLdb.OperationalError, match="denied"):
                cursor.execute(statement)


def test_no_process_was_refused_anything(site: Site) -> None:
    """The last test: some go on without what a server refuses them, and only log it."""
    said = site.log.read_text()
    assert not re.findall(r".*(?:no permissions|ACCESS_REFUSED|not authorized|denied).*", said)
