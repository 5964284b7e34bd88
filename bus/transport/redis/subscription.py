"""Deliveries from the queues that kombu's Redis transport writes.

kombu's own consumer pops a message and only then notes it as unacknowledged. A consumer killed
between the two loses the message; in a test, a broken connection does so within seconds. So this
subscription takes a message by one LMOVE into a list of its own, and acknowledges it by removing
it from that list (https://redis.io/docs/latest/commands/lmove/, "Pattern: Reliable queue"). What
a killed consumer leaves there returns to the head of the queue when the next consumer of that
name starts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from bus.errors import BrokerUnavailable, SubscriptionCancelled
from bus.message import Delivery
from bus.topology import Queue
from bus.transport.redis.admin import RedisAdmin, taken_list
from bus.transport.redis.message_format import decode

# How long a message of another priority than the usual one may stay unseen.
POLL_SECONDS = 0.02
CHECK_SECONDS = 1.0
# Redis counts whole milliseconds, and reads less than one as no bound at all.
SHORTEST_WAIT = 0.01

# From the lists of all priorities to that of the taken messages, which is the last key.
_MOVE = """
local moved, taken = {}, KEYS[#KEYS]
for i = 1, #KEYS - 1 do
  while #moved < tonumber(ARGV[1]) do
    local message = redis.call('LMOVE', KEYS[i], taken, 'RIGHT', 'LEFT')
    if not message then break end
    moved[#moved + 1] = message
  end
end
return moved
"""


class RedisSubscription:
    """A subscription to a queue in Redis. See ``Subscription``."""

    def __init__(self, url: str, queue: Queue, prefetch: int, instance: str) -> None:
        self._admin = RedisAdmin(url)
        self._queue = queue
        self._instance = instance
        self._next_check = 0.0
        self._redis: Any = self._admin.client
        self._lists = self._admin.lists(queue)
        self._taken = taken_list(queue, instance)
        self._prefetch = prefetch
        self._unsettled = 0
        self._move = self._redis.register_script(_MOVE)
        try:
            self._admin.return_unsettled(queue, instance)
        except BrokerUnavailable:
            self._admin.close()
            raise

    def receive(self, limit: int, wait: float) -> list[Delivery]:
        limit = min(limit, self._prefetch - self._unsettled)
        if limit <= 0:
            self.idle(wait)
            return []
        deadline = time.monotonic() + wait
        with self._admin.broker_errors(f"take from {self._queue.name}"):
            raw = self._take(limit)
            while not raw and (remaining := deadline - time.monotonic()) > 0:
                raw = self._wait(remaining)
                raw += self._take(limit - len(raw))
        if not raw:
            self._check_bindings()
        self._unsettled += len(raw)
        return self._marked_if_older([decode(message) for message in raw])

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        with (
            self._admin.broker_errors(f"acknowledge to {self._queue.name}"),
            self._redis.pipeline(transaction=False) as pipeline,
        ):
            for delivery in deliveries:
                pipeline.lrem(self._taken, -1, delivery.tag)
            pipeline.execute()
        self._unsettled -= len(deliveries)

    def cancel(self) -> None:
        self._prefetch = 0

    def idle(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        try:
            self._admin.return_unsettled(self._queue, self._instance)
        except BrokerUnavailable:
            pass  # the next consumer of this name returns them
        finally:
            self._admin.close()

    def _marked_if_older(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Marks what was published to an earlier run of the server as redelivered: that run may
        have delivered it, and its last writes may be lost. Asks for the run after taking the
        messages, because a restart may be what brought them back."""
        if all(delivery.run_id is None for delivery in deliveries):
            return deliveries
        run_ids = (None, self._admin.run_id())
        return [
            delivery
            if delivery.run_id in run_ids
            else msgspec.structs.replace(delivery, redelivered=True)
            for delivery in deliveries
        ]

    def _check_bindings(self) -> None:
        """Raises SubscriptionCancelled when the queue was deleted, which Redis does not report."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + CHECK_SECONDS
        if self._admin.is_missing(self._queue):
            raise SubscriptionCancelled(f"{self._queue.name} has lost a binding")

    def _take(self, limit: int) -> list[bytes]:
        """Up to ``limit`` messages, the most urgent first, without waiting."""
        taken: list[bytes] = self._move(keys=[*self._lists, self._taken], args=[limit])
        return taken

    def _wait(self, seconds: float) -> list[bytes]:
        """Waits for the next message. Redis can wait for one list only."""
        if len(self._lists) > 1:
            seconds = min(seconds, POLL_SECONDS)
        seconds = max(seconds, SHORTEST_WAIT)
        message = self._redis.blmove(self._lists[0], self._taken, seconds, "RIGHT", "LEFT")
        return [] if message is None else [message]
