"""Checks periodically that the queues and bindings that a publisher relies on exist.

A confirm does not prove it: an exchange that lost one of two queues still confirms what the other
one took. So a publisher asks a guard first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator

from bus.errors import BrokerUnavailable
from bus.runtime.after_fork import after_fork
from bus.topology import Queue, exchanges_of
from bus.transport import AdminConnection, connect_admin
from bus.transport.rabbitmq.management_api import Management

logger = logging.getLogger(__name__)

INTERVAL = 5.0
# How long a caller waits for a check, and the shortest time between two checks.
PATIENCE = 5.0
PAUSE = 0.1
NOT_CHECKED = "not checked yet"
UNREACHABLE = "not checked: the broker is unreachable"


class TopologyGuard:
    """Checks every ``interval`` seconds that ``queues`` exist with their bindings.

    On RabbitMQ the guard finds a missing queue or exchange. It finds a missing binding if
    ``api_url`` gives the management API (usually port 15672 of the broker). Without it, or while
    it does not answer, the guard declares the bindings again, which changes nothing if they exist.
    On Redis the guard reads the bindings from kombu's tables.

    The guard's thread starts with the first question. Safe to share between threads, and after a
    fork. Raises SettingError for an ``api_url`` that cannot be read.
    """

    def __init__(
        self,
        url: str,
        queues: Iterable[Queue],
        *,
        api_url: str | None = None,
        interval: float = INTERVAL,
    ) -> None:
        self._url = url
        self._queues = tuple(queues)
        self.api = Management.from_url(url, api_url) if api_url else None
        self._interval = interval
        self._begin()
        after_fork(self._begin)

    def _begin(self) -> None:
        """Starts no thread: the first question does, in the process that asks it."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._problem: str | None = NOT_CHECKED
        self._looks = 0
        self._asked = False
        self._closed = False

    def problem(self, timeout: float = PATIENCE) -> str | None:
        """What is wrong, in words that anybody may read; None when the last check found nothing.

        Before the first check has ended, and after a check that found a problem, this waits for
        the next one, up to ``timeout`` seconds, so a repair is noticed at once.
        """
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="guard", daemon=True)
                self._thread.start()
            if self._problem is not None:
                looks, self._asked = self._looks, True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._looks > looks, timeout)
            return self._problem

    def close(self) -> None:
        """Ends the thread and its connection."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread:
            self._thread.join(PATIENCE)

    def _run(self) -> None:
        inspector = TopologyInspector(self._url, self._queues, self.api)
        while not self._closed:
            self._note(inspector.problem())
            with self._changed:
                self._changed.wait_for(lambda: self._closed, PAUSE)
                self._changed.wait_for(lambda: self._closed or self._asked, self._interval)
        inspector.close()

    def _note(self, problem: str | None) -> None:
        with self._changed:
            before, self._problem = self._problem, problem
            self._looks += 1
            self._asked = False
            self._changed.notify_all()
        if problem and problem != before:
            logger.error("nothing is published: %s", problem)
        elif before and not problem:
            logger.info("all exchanges, queues and bindings exist")


class TopologyInspector:
    """Checks the topology over a connection of its own. Use it from one thread."""

    def __init__(self, url: str, queues: tuple[Queue, ...], api: Management | None) -> None:
        self._url = url
        self._queues = queues
        self._api = api
        self._admin: AdminConnection | None = None

    def problem(self) -> str | None:
        """The first thing that is missing, or None."""
        try:
            admin = self._admin = self._admin or connect_admin(self._url)
            return next(self._missing(admin), None)
        except Exception as error:  # noqa: BLE001 - a dead guard would keep reporting its last answer
            logger.warning("the topology could not be checked: %s", error)
            self.close()
            return UNREACHABLE

    def close(self) -> None:
        admin, self._admin = self._admin, None
        if admin:
            admin.close()

    def _missing(self, admin: AdminConnection) -> Iterator[str]:
        for queue in self._queues:
            if admin.depth(queue) is None:
                yield f"queue {queue.name} is missing"
        bindings = self._bindings(admin)
        for queue in self._queues:
            if bindings is not None:
                yield from _unbound(queue, bindings)
            elif not admin.bind(queue):
                yield f"queue {queue.name} or its exchange is missing"

    def _bindings(self, admin: AdminConnection) -> set[tuple[str, str, str]] | None:
        """Exchange, routing key and queue of each binding; None where neither the connection
        nor the management API can answer."""
        bindings = admin.bindings(exchanges_of(self._queues))
        if bindings is not None or self._api is None:
            return bindings
        try:
            found = self._api.bindings()
        except BrokerUnavailable as error:
            logger.warning("declaring the bindings instead of checking them: %s", error)
            return None
        return {(each.source, each.routing_key, each.destination) for each in found}


def _unbound(queue: Queue, bindings: set[tuple[str, str, str]]) -> Iterator[str]:
    for binding in queue.bindings:
        exchange, key = binding.exchange.name, binding.routing_key
        if (exchange, key, queue.name) not in bindings:
            yield f"queue {queue.name} is not bound to {exchange} with {key}"
