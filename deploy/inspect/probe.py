"""Asking every server and process how it is, all at once and for a bounded time."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import closing
from typing import Any, TypeVar

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from bus import topology
from bus.errors import SettingError, reason
from bus.runtime.settings import Environment
from bus.topology import Queue
from bus.transport import AdminConnection, connect_admin, has_streams
from deploy.inspect.report import ProcessSample, QueueSample, Snapshot, StoreSample
from deploy.local.preflight import URLS, addresses_of

ANSWER_SECONDS = 3.0

Answer = TypeVar("Answer")
Target = tuple[str, str, int]
"""A process's name and the host and port of its ops listener."""


def targets_of(environment: Environment) -> list[Target]:
    """The processes of OPS_TARGETS, ``name=host:port`` each. Raises SettingError."""
    return [_target(word) for word in environment.words("OPS_TARGETS")]


def _target(word: str) -> Target:
    name, _, address = word.partition("=")
    host, _, port = address.rpartition(":")
    if not (name and host and port.isascii() and port.isdecimal()):
        raise SettingError("OPS_TARGETS", f"{word!r}; accepted is name=host:port[,…]")
    return name, host.strip("[]"), int(port)


def look(environment: Environment, targets: Iterable[Target]) -> Snapshot:
    """One snapshot; takes ANSWER_SECONDS when something stalls, and less when nothing does."""
    asked_stores = {name: _ask(_store, name, environment) for name in URLS}
    asked_processes = [(target, _ask(_process, target)) for target in targets]
    asked_queues = _ask(_queues, environment)
    deadline = time.monotonic() + ANSWER_SECONDS
    stores = [_store_of(name, future, deadline) for name, future in asked_stores.items()]
    processes = [_process_of(target, future, deadline) for target, future in asked_processes]
    moment, queues = _queues_of(asked_queues, deadline)
    return Snapshot(time=moment, queues=queues, stores=tuple(stores), processes=tuple(processes))


def _ask(question: Callable[..., Answer], *arguments: Any) -> Future[Answer]:
    """Asks in a daemon thread: a stalled server must not hold up the exit."""
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(question(*arguments))
        except Exception as error:  # noqa: BLE001 - any error is the answer
            future.set_exception(error)

    threading.Thread(target=run, name=f"ask{question.__name__}", daemon=True).start()
    return future


class NoAnswer(Exception):
    """None in time, or an error; the text says which."""


def _answer(future: Future[Answer], deadline: float) -> Answer:
    """Raises NoAnswer."""
    try:
        return future.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        raise NoAnswer(f"no answer within {ANSWER_SECONDS:g} s") from None
    except SettingError as error:
        raise NoAnswer(error.problem) from error
    except Exception as error:  # each library has errors of its own
        raise NoAnswer(reason(error)) from error


# Servers


def _store_of(name: str, future: Future[StoreSample], deadline: float) -> StoreSample:
    try:
        return _answer(future, deadline)
    except NoAnswer as error:
        return StoreSample(name=name, problem=str(error))


def _store(name: str, environment: Environment) -> StoreSample:
    if not environment.values.get(name):
        return StoreSample(name=name, problem="not set", configured=False)
    url = environment.url(name)
    started = time.monotonic()
    _PINGS[name](url)
    return StoreSample(name=name, milliseconds=(time.monotonic() - started) * 1000)


def _ping_database(url: str) -> None:
    """A MySQL server greets every connection; whether it accepts the user, the web tier reports."""
    for address in addresses_of(url)[:1]:
        with socket.create_connection(address, ANSWER_SECONDS) as connection:
            if not connection.recv(1):
                raise ConnectionError("the connection was closed without a greeting")


def _ping_broker(url: str) -> None:
    with closing(connect_admin(url)) as admin:
        admin.ping()


def _ping_redis(url: str) -> None:
    from bus.rooms.redis_client import connect

    with closing(connect(url, ANSWER_SECONDS)) as client:
        client.ping()


def _ping_mongo(url: str) -> None:
    from consumers.mongo_writer import open_messages

    database = open_messages(url).database
    with closing(database.client):
        database.command("ping")


_PINGS: Mapping[str, Callable[[str], None]] = {
    "DATABASE_URL": _ping_database,
    "BROKER_URL": _ping_broker,
    "REDIS_URL": _ping_redis,
    "MONGO_URL": _ping_mongo,
}


# Queues


Queues = tuple[float, tuple[QueueSample, ...]]
"""When the broker was asked, and its queues."""


def _queues_of(future: Future[Queues], deadline: float) -> Queues:
    """Without an answer there are none to show; the broker's own line says why."""
    try:
        return _answer(future, deadline)
    except NoAnswer:
        return time.time(), ()


def _queues(environment: Environment) -> Queues:
    url = environment.optional_url("BROKER_URL")
    if not url:
        return time.time(), ()
    with closing(connect_admin(url)) as admin:
        moment = time.time()
        queues = [_queue(admin, queue) for queue in topology.CONSUMERS.values()]
        if has_streams(url):
            archive = topology.ARCHIVE
            queues.append(QueueSample(name=archive.name, waiting=admin.depth(archive)))
        return moment, tuple(queues)


def _queue(admin: AdminConnection, queue: Queue) -> QueueSample:
    dead = queue.dead_letters
    return QueueSample(
        name=queue.name,
        waiting=admin.depth(queue),
        consumers=admin.consumers(queue),
        dead_letters=None if dead is None else admin.depth(dead),
        paused=bool(admin.depth(topology.pause_queue(queue))),
    )


# Processes


def _process_of(target: Target, future: Future[ProcessSample], deadline: float) -> ProcessSample:
    try:
        return _answer(future, deadline)
    except NoAnswer as error:
        name, host, port = target
        return ProcessSample(name=name, address=f"{host}:{port}", problem=str(error))


class _Ready(msgspec.Struct):
    checks: dict[str, str]


def _process(target: Target) -> ProcessSample:
    name, host, port = target
    with closing(http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)) as connection:
        ready = msgspec.json.decode(_get(connection, "/health/ready"), type=_Ready)
        samples = _samples(_get(connection, "/metrics").decode())
    versions = [labels["version"] for labels, _ in samples.get("chatbus_info", ())]
    started = [value for _, value in samples.get("process_start_time_seconds", ())]
    return ProcessSample(
        name=name,
        address=f"{host}:{port}",
        checks=ready.checks,
        version=versions[0] if versions else None,
        started=min(started, default=None),
        subscriptions=_by_queue(samples, "chatbus_subscriptions"),
        settled=_by_queue(
            samples, "chatbus_consumed_messages_total", "chatbus_dead_lettered_messages_total"
        ),
        oldest=_by_queue(samples, "chatbus_oldest_unprocessed_seconds"),
        # The gateway knows these names, too.
        sockets=_number(samples, "chatbus_bridge_sockets") if name == "bridge" else None,
        rooms=_number(samples, "chatbus_bridge_rooms") if name == "bridge" else None,
    )


def _get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    return connection.getresponse().read()


Samples = dict[str, list[tuple[dict[str, str], float]]]


def _samples(text: str) -> Samples:
    """The samples of Prometheus's text format by name, each with its labels."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def _number(samples: Samples, name: str) -> int | None:
    return int(samples[name][0][1]) if name in samples else None


def _by_queue(samples: Samples, *names: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name in names:
        for labels, value in samples.get(name, ()):
            sums[labels["queue"]] = sums.get(labels["queue"], 0.0) + value
    return sums
