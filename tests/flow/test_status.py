"""``chatbus status`` beside a running system on real servers."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from bus.topology import MONGO_WRITER
from tests.support.command import chatbus
from tests.support.freeze import frozen
from tests.support.person import Person
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import MariaDB, Redis
from tests.support.stack import HIGH_LIMITS, Stack
from tests.support.wait import patience, wait_until

QUEUE = MONGO_WRITER.name


@pytest.fixture(scope="module")
def running(
    breakable_rabbitmq: RabbitMQ,
    redis_server: Redis,
    mariadb: MariaDB,
    mongo_server: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    settings = {
        "BROKER_URL": breakable_rabbitmq.fresh_vhost(),
        "REDIS_URL": redis_server.fresh_database(),
        "DATABASE_URL": mariadb.fresh_database(),
        "MONGO_URL": mongo_server(),
        **HIGH_LIMITS,
    }
    with closing(Stack(tmp_path_factory.mktemp("status"), settings)) as stack:
        stack.start()
        stack.wait_until_ready()
        yield stack


def status(stack: Stack, *words: str) -> dict[str, Any]:
    done = chatbus("status", "--data", str(stack.data), "--json", *words)
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == bool(report["problems"]), done.stderr
    return report


def queue(report: dict[str, Any], name: str = QUEUE) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in report["queues"] if row["name"] == name)
    return found


@contextmanager
def load(stack: Stack) -> Iterator[None]:
    """Somebody who writes all the time."""
    writer = Person.registered(stack.base_url, f"writer{uuid.uuid4().hex[:8]}")
    room = writer.make_room("busy")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            writer.post(room, "words")

    thread = threading.Thread(target=write)
    thread.start()
    yield
    stop.set()
    thread.join()


def eventually(found: Callable[[], Any], what: str) -> None:
    wait_until(found, timeout=60, what=what)


def test_the_bridge_shows_who_is_connected(running: Stack):
    alice = Person.registered(running.base_url, "alice")
    room = alice.make_room("garden")
    with alice.open_socket() as socket:
        socket.subscribe(room)
        [bridge] = [p for p in status(running)["processes"] if p["name"] == "bridge"]
        assert (bridge["sockets"], bridge["rooms"]) == (1, 1)


def test_all_that_runs_is_shown_and_well(running: Stack):
    with load(running):
        report = wait_until(
            lambda: (r := status(running)) and (queue(r)["out_rate"] or 0) > 0 and r,
            timeout=patience(60),
            what="messages leave the queue",
        )
    assert report["problems"] == []
    assert queue(report)["in_rate"] > 0
    assert queue(report)["consumers"] == 1
    assert queue(report, "web.requests")["consumers"] == 4
    assert {p["name"] for p in report["processes"]} >= {"web", "mongo_writer", "bridge", "gateway"}
    assert all(process["version"] for process in report["processes"])
    assert all(store["milliseconds"] is not None for store in report["stores"])


def test_a_paused_consumer_a_growing_queue_and_their_age_are_shown(running: Stack):
    assert chatbus("pause", "mongo_writer", "--data", str(running.data)).returncode == 0
    with load(running):
        eventually(
            lambda: (
                (q := queue(status(running)))["paused"]
                and q["waiting"]
                and q["oldest_seconds"] > 0
                and q["consumers"] == 0
            ),
            "the queue fills",
        )
        assert status(running)["problems"] == []
    assert chatbus("resume", "mongo_writer", "--data", str(running.data)).returncode == 0
    eventually(lambda: queue(status(running))["waiting"] == 0, "the queue is empty")


def test_a_process_that_hangs_is_named(running: Stack):
    pid = running.processes()["mongo_writer"]
    with frozen(pid):
        report = status(running)
    assert any("mongo_writer at" in problem for problem in report["problems"])
    eventually(lambda: status(running)["problems"] == [], "all is well again")


def test_a_broker_that_stalls_holds_up_nothing(running: Stack, breakable_rabbitmq: RabbitMQ):
    with frozen(breakable_rabbitmq.pid):
        report = status(running)
    stores = {store["name"]: store for store in report["stores"]}
    assert "BROKER_URL: " in "\n".join(report["problems"])
    assert stores["REDIS_URL"]["milliseconds"] is not None
    assert stores["BROKER_URL"]["milliseconds"] is None


def test_without_a_terminal_it_is_lines(running: Stack):
    done = chatbus("status", "--data", str(running.data))
    assert done.returncode == 0, done.stdout
    assert QUEUE in done.stdout
    assert "all is well" in done.stdout.splitlines()[-1]
    assert "┃" not in done.stdout


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "1e9"])
def test_an_interval_out_of_range_is_refused(seconds: str):
    done = chatbus("status", "--watch", "--interval", seconds)
    assert done.returncode == 2
    assert "accepted are seconds" in done.stderr
