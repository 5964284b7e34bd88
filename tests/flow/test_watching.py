"""Health, metrics, logs and traces of all processes, on servers that are taken away from them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import pika
import psutil
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from bus.topology import EVENTS
from deploy.processes import PROCESSES
from tests.conftest import run_server
from tests.support.freeze import frozen
from tests.support.person import Person
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import MariaDB, Mongo, Redis, Server
from tests.support.stack import Stack
from tests.support.wait import patience, wait_until

MESSAGES = 10
RECOVERY_SECONDS = 60.0
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e47{:02x}"
Servers = dict[str, Server]
Json = dict[str, Any]
Fault = Callable[[Server], AbstractContextManager[None]]

# Which server each process cannot work without; the web's history it can.
NEEDS = {
    "broker": {
        *("web", "mongo_writer", "redis_publisher", "gateway", "request_worker", "outbox_relay")
    },
    "redis": {"redis_publisher", "bridge"},
    "mongo": {"mongo_writer"},
    "database": {"web", "request_worker", "outbox_relay"},
}


@pytest.fixture(scope="module")
def servers(breakable_rabbitmq: RabbitMQ) -> Iterator[Servers]:
    kinds = {"redis": Redis(), "mongo": Mongo(), "database": MariaDB()}
    running = {name: run_server(server) for name, server in kinds.items()}
    yield {"broker": breakable_rabbitmq, **{name: next(own) for name, own in running.items()}}
    for server in running.values():
        next(server, None)


@pytest.fixture(scope="module")
def up(
    servers: Servers, breakable_rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    settings = {
        "BROKER_URL": breakable_rabbitmq.fresh_vhost(),
        "REDIS_URL": servers["redis"].url,
        "MONGO_URL": servers["mongo"].url,
        "DATABASE_URL": servers["database"].url,
        "WEB_WORKERS": "2",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "json",
    }
    with closing(Stack(tmp_path_factory.mktemp("watching"), settings)) as running:
        running.start()
        running.wait_until_ready()
        yield running


def records(up: Stack, **wanted: str) -> list[Json]:
    """The log records whose fields are ``wanted``."""
    lines = [line for line in up.output.splitlines() if line.startswith("{")]
    found: list[Json] = [json.loads(line) for line in lines]
    return [record for record in found if wanted.items() <= record.items()]


def readiness(up: Stack) -> dict[str, int]:
    """The status of every process's /health/ready."""
    urls = {name: f"{up.ops_url(name)}/health/ready" for name in PROCESSES}
    return {name: requests.get(url, timeout=patience(10)).status_code for name, url in urls.items()}


def total(up: Stack, process: str, name: str, **labels: str) -> float:
    """The sum of a process's samples that have these labels."""
    text = requests.get(f"{up.ops_url(process)}/metrics", timeout=patience(10)).text
    families = text_string_to_metric_families(text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


def growth(up: Stack, process: str, name: str, **labels: str) -> Callable[[], float]:
    """How much it has grown since this call."""
    before = total(up, process, name, **labels)
    return lambda: total(up, process, name, **labels) - before


@pytest.fixture(params=["web", "gateway"])
def way(request: pytest.FixtureRequest) -> str:
    way: str = request.param
    return way


@pytest.fixture
def alice(up: Stack, way: str) -> Person:
    return Person.registered(up.base_url if way == "web" else up.gateway_url, "alice")


@pytest.fixture
def exchanged(up: Stack) -> Iterator[Callable[[str], Json]]:
    """The headers of the message with an id, as they went over the exchange."""
    broker = pika.URLParameters(up.settings()["BROKER_URL"])
    with pika.BlockingConnection(broker) as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, EVENTS.name, "#")

        def headers(message_id: str) -> Json:
            for _, properties, _ in channel.consume(queue, auto_ack=True, inactivity_timeout=10):
                assert properties, f"{message_id} did not come"
                if properties.message_id == message_id:
                    found: Json = properties.headers
                    return found
            raise AssertionError("the queue has gone")

        yield headers


def test_a_post_is_one_trace_from_the_browser_to_both_sinks(
    up: Stack, way: str, alice: Person, exchanged: Callable[[str], Json]
) -> None:
    room = alice.make_room("lighthouse")
    trace_id = TRACE_ID.format(len(way))
    answer = alice.api(
        "POST",
        f"rooms/{room}/messages",
        {"body": "hi"},
        traceparent=f"00-{trace_id}-00f067aa0ba902b7-01",
    )
    assert answer.status_code == 202
    assert answer.headers["traceparent"].split("-")[1] == trace_id

    message_id = answer.json()["id"]
    assert exchanged(message_id)["traceparent"].split("-")[1] == trace_id
    fronts = {"web"} if way == "web" else {"gateway", "request_worker"}
    expected = {*fronts, "mongo_writer", "redis_publisher"}

    def traced() -> bool:
        return {record["process"] for record in records(up, trace_id=trace_id)} >= expected

    wait_until(traced, what=f"records of {expected}")
    of_message = records(up, trace_id=trace_id, event_id=message_id, room_id=room)
    assert {record["process"] for record in of_message} == expected - {"gateway"}


def test_without_a_trace_one_begins(up: Stack, way: str, alice: Person) -> None:
    room = alice.make_room("harbour")
    answer = alice.api("POST", f"rooms/{room}/messages", {"body": "hi"}, traceparent="nonsense")
    trace_id = answer.headers["traceparent"].split("-")[1]
    wait_until(lambda: records(up, trace_id=trace_id, process="mongo_writer"))


def test_answers_of_the_gateway_itself_tell_their_trace(up: Stack) -> None:
    trace_id = TRACE_ID.format(0xFF)
    answer = requests.get(
        up.gateway_url,
        headers={"Host": "elsewhere.test", "traceparent": f"00-{trace_id}-00f067aa0ba902b7-00"},
        timeout=patience(10),
    )
    assert answer.status_code == 400
    assert answer.headers["traceparent"].split("-")[1] == trace_id


def test_every_line_but_the_table_is_a_record(up: Stack) -> None:
    begin = {record["process"] for record in records(up) if record["time"] and record["level"]}
    assert begin >= set(PROCESSES)
    assert {record["logger"] for record in records(up)} >= {"gunicorn.error", "uvicorn.error"}


def test_messages_are_counted_where_they_pass(up: Stack) -> None:
    alice = Person.registered(up.base_url, "alice")
    room = alice.make_room("pier")
    with alice.open_socket() as socket:
        socket.subscribe(room)
        grown = {
            "published": growth(up, "web", "chatbus_published_messages_total"),
            "confirmed": growth(up, "web", "chatbus_confirmed_messages_total"),
            "answered": growth(
                up, "web", "chatbus_http_requests_total", method="POST", status="2xx"
            ),
            "stored": growth(
                up, "mongo_writer", "chatbus_consumed_messages_total", queue="chat.mongo_writer"
            ),
            "logged": growth(
                up,
                "redis_publisher",
                "chatbus_consumed_messages_total",
                queue="chat.redis_publisher",
            ),
            "heard": growth(up, "bridge", "chatbus_bridge_events_total"),
            "pushed": growth(up, "bridge", "chatbus_bridge_frames_total"),
        }
        for number in range(MESSAGES):
            alice.post(room, f"message {number}")
        socket.message(f"message {MESSAGES - 1}")
        wait_until(
            lambda: (
                {what: grow() for what, grow in grown.items()} == dict.fromkeys(grown, MESSAGES)
            ),
            what=f"each has grown by {MESSAGES}",
        )
        assert total(up, "bridge", "chatbus_bridge_sockets") == 1
        assert total(up, "bridge", "chatbus_bridge_rooms") == 1
    wait_until(lambda: total(up, "bridge", "chatbus_bridge_sockets") == 0)


def test_held_requests_are_counted_at_both_ends(up: Stack) -> None:
    answers = growth(up, "gateway", "chatbus_gateway_answers_total", status="2xx")
    times = growth(up, "gateway", "chatbus_gateway_rpc_seconds_count")
    runs = growth(up, "request_worker", "chatbus_worker_requests_total", status="2xx")
    for _ in range(MESSAGES):
        assert requests.get(f"{up.gateway_url}/accounts/login/", timeout=patience(30)).ok
    assert (answers(), times(), runs()) == (MESSAGES,) * 3
    assert total(up, "gateway", "chatbus_gateway_held_requests") == 0


def test_what_a_dead_worker_of_the_web_has_counted_still_counts(up: Stack) -> None:
    for _ in range(MESSAGES):
        assert requests.get(f"{up.base_url}/health/live", timeout=patience(10)).ok
    counted = growth(up, "web", "chatbus_http_requests_total", method="GET")
    workers = psutil.Process(up.pid_of("web")).children()
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: len(psutil.Process(up.pid_of("web")).children()) == len(workers))
    wait_until(lambda: requests.get(f"{up.base_url}/health/live", timeout=patience(10)).ok)
    assert counted() >= 1


@contextmanager
def killed(server: Server) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def stalled(server: Server) -> Iterator[None]:
    """It keeps its connections, takes new ones, and answers nothing."""
    with frozen(server.pid):
        yield


@pytest.mark.parametrize("fault", [killed, stalled])
@pytest.mark.parametrize("name", list(NEEDS))
def test_who_needs_a_server_is_not_ready_without_it(
    up: Stack, servers: Servers, name: str, fault: Fault
) -> None:
    all_ready = dict.fromkeys(PROCESSES, 200)
    wait_until(lambda: readiness(up) == all_ready, RECOVERY_SECONDS, "all are ready")
    with fault(servers[name]):
        expected = all_ready | dict.fromkeys(NEEDS[name], 503)
        wait_until(lambda: readiness(up) == expected, RECOVERY_SECONDS, f"{expected}")
        assert all(
            requests.get(f"{up.ops_url(p)}/health/live", timeout=patience(5)).ok for p in PROCESSES
        )
    wait_until(lambda: readiness(up) == all_ready, RECOVERY_SECONDS, "all are ready again")
