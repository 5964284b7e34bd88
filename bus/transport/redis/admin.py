"""Questions to Redis as a broker, and the declaration of what is used there.

kombu keeps the bindings of an exchange in a table. Exchanges and queues exist once something is
written to them, so a queue is no more than its bindings.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from bus.errors import BrokerUnavailable, QueueBusy, reason
from bus.runtime.redis_cluster import CLUSTER_ERRORS, cluster_problem
from bus.topology import Exchange, Queue, exchanges_of, lock_name
from bus.transport.interfaces import Renew
from bus.transport.kombu_admin import KombuAdmin
from bus.transport.redis.message_format import as_redelivered
from bus.transport.urls import IO_TIMEOUT, connect_timeout

# How long the lock of a killed command keeps others out.
LOCK_SECONDS = 60

# Only what is still there: another consumer of this name may be returning it as well.
_RETURN = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then
  redis.call('RPUSH', KEYS[2], ARGV[2])
end
"""


class RedisAdmin(KombuAdmin):
    """An admin connection to Redis. See ``AdminConnection``."""

    def __init__(self, url: str) -> None:
        seconds = connect_timeout(url)
        super().__init__(url, {"socket_timeout": IO_TIMEOUT, "socket_connect_timeout": seconds})

    @property
    def client(self) -> Any:
        """The channel's Redis client."""
        return self.channel.client

    def close(self) -> None:
        # Not kombu's ``collect``: for that moment it changes the timeout of every socket that
        # other threads make, and two at once change it for good.
        with suppress(*self.errors, AttributeError):
            self.connection.release()

    def _tls_options(self, authorities: str | None) -> dict[str, Any]:
        return {
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_check_hostname": True,
            "ssl_ca_certs": authorities,
        }

    def ping(self) -> None:
        try:
            self.client.ping()
        except self.errors as error:
            self.close()
            raise BrokerUnavailable(f"the broker does not answer: {reason(error)}") from error

    @contextmanager
    def broker_errors(self, doing: str) -> Iterator[None]:
        with super().broker_errors(doing):
            try:
                yield
            except CLUSTER_ERRORS as error:
                raise BrokerUnavailable(f"Redis: {cluster_problem('BROKER_URL', error)}") from error

    def run_id(self) -> str:
        """Identifies one run of the server; a restart changes it. Raises BrokerUnavailable."""
        with self.broker_errors("ask Redis for its run"):
            return str(self.client.info("server")["run_id"])

    def depth(self, queue: Queue) -> int:
        """An empty queue and no queue are the same here: 0."""
        with self.broker_errors(f"ask for {queue.name}"):
            return int(self.channel._size(queue.name))

    def consumers(self, queue: Queue) -> None:
        """Redis does not know its consumers."""

    def is_missing(self, queue: Queue) -> bool:
        """Whether ``queue`` has lost a binding; one without any always exists."""
        found = self.bindings(exchanges_of([queue])) if queue.bindings else set()
        return any(
            (b.exchange.name, b.routing_key, queue.name) not in found for b in queue.bindings
        )

    def has_message(self, queue: Queue) -> bool:
        return self.depth(queue) > 0

    def purge(self, queue: Queue) -> int:
        with self.broker_errors(f"purge {queue.name}"):
            return int(self.channel.queue_purge(queue.name))

    def declare(self, queues: Iterable[Queue]) -> None:
        # kombu remembers bindings for the life of the process, even when Redis lost them.
        self.channel.state.clear()
        super().declare(queues)

    def bindings(self, exchanges: Iterable[Exchange]) -> set[tuple[str, str, str]]:
        with self.broker_errors("read the bindings"):
            tables = {
                exchange.name: self.channel.get_table(exchange.name) for exchange in exchanges
            }
        return {(name, key, queue) for name, table in tables.items() for key, _, queue in table}

    def bind(self, queue: Queue) -> bool:
        self.declare([queue])
        return True

    def return_unsettled(self, queue: Queue, instance: str) -> None:
        taken, [head, *_] = taken_list(queue, instance), self.lists(queue)
        script = self.client.register_script(_RETURN)
        with self.broker_errors(f"return messages to {queue.name}"):
            while raw := self.client.lindex(taken, 0):
                script(keys=[taken, head], args=[raw, as_redelivered(raw)])

    def lists(self, queue: Queue) -> list[str]:
        """The Redis lists of ``queue``, one for each priority, the most urgent first."""
        steps = self.channel.priority_steps if "x-max-priority" in queue.arguments else [0]
        return [self.channel._q_for_pri(queue.name, step) for step in steps]

    @contextmanager
    def queue_lock(self, queue: Queue) -> Iterator[Renew]:
        """A key that expires after LOCK_SECONDS is the lock."""
        name, token = lock_name(queue), secrets.token_hex(8).encode()

        def renew() -> None:
            with self.broker_errors(f"lock {queue.name}"):
                is_free = self.client.set(name, token, nx=True, ex=LOCK_SECONDS)
                if not is_free and self.client.get(name) != token:
                    raise QueueBusy(queue.name)
                self.client.expire(name, LOCK_SECONDS)

        renew()
        try:
            yield renew
        finally:
            with suppress(*self.errors):
                if self.client.get(name) == token:
                    self.client.delete(name)

    def _has_queue(self, queue: Queue) -> bool:
        return False


def taken_list(queue: Queue, instance: str) -> str:
    """The Redis list of what the consumer ``instance`` of ``queue`` took and did not settle."""
    return f"{queue.name}.taken.{instance}"
