"""A dead letter: why a message was dead-lettered, and the message that a redrive makes of it.

A consumer dead-letters a message with ``x-reason`` and the other headers below
(``to_dead_letter``). RabbitMQ itself dead-letters one with ``x-death``, at the delivery limit or
when a message is rejected or expires (https://www.rabbitmq.com/docs/dlx#effects).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bus import events, topology
from bus.message import Delivery, Message
from bus.topology import Queue

# Reasons.
INVALID = "invalid_event"
REFUSED = "refused_by_sink"
EXHAUSTED = "retries_exhausted"

REASON = "x-reason"
EXCEPTION = "x-exception"
CONSUMER = "x-consumer"
TIME = "x-time"
ATTEMPTS = "x-attempts"
# These two stay when a message is redriven.
ROUTING_KEY = "x-routing-key"
REDRIVEN = "x-redriven"

# ``published_at`` stays, too: since then the archive has the event, and the sink has not.
_REMOVED_BY_REDRIVE = frozenset({REASON, EXCEPTION, CONSUMER, TIME, ATTEMPTS})
_BROKER_HEADERS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count")
LONGEST_EXCEPTION = 1_000


def to_dead_letter(
    queue: Queue, delivery: Delivery, reason: str, error: Exception, attempts: int
) -> Message:
    """``delivery`` as it goes to ``<queue>.dead``: the body unchanged, the reason in headers.

    ``attempts`` is how often the sink got the event alone. A message that was redriven before
    keeps the routing key that it was published with.
    """
    headers = dict(delivery.headers) | {
        REASON: reason,
        EXCEPTION: _text_of(error),
        CONSUMER: queue.name,
        TIME: events.format_time(datetime.now(UTC)),
        ROUTING_KEY: delivery.headers.get(ROUTING_KEY, delivery.routing_key),
        ATTEMPTS: attempts,
    }
    return _copy(delivery, topology.DEAD.name, queue.name, headers)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message among the dead letters of ``queue``. A fact that no header has is None."""

    queue: Queue
    delivery: Delivery

    @property
    def id(self) -> str | None:
        return self.delivery.message_id

    @property
    def reason(self) -> str:
        return _text(self._headers.get(REASON) or self._death.get("reason")) or "unknown"

    @property
    def exception(self) -> str | None:
        return _text(self._headers.get(EXCEPTION))

    @property
    def consumer(self) -> str | None:
        return _text(self._headers.get(CONSUMER))

    @property
    def attempts(self) -> int | None:
        return _number(self._headers.get(ATTEMPTS))

    @property
    def time(self) -> str | None:
        """When it was dead-lettered, in RFC 3339; by RabbitMQ itself, to the second."""
        time = self._headers.get(TIME) or self._death.get("time")
        return events.format_time(time) if isinstance(time, datetime) else _text(time)

    @property
    def routing_key(self) -> str:
        """The routing key that it was first published with."""
        keys = self._death.get("routing-keys")
        first = keys[0] if isinstance(keys, list) and keys else self.delivery.routing_key
        return str(self._headers.get(ROUTING_KEY) or first)

    @property
    def room_id(self) -> str | None:
        return _text(self._headers.get("room_id"))

    @property
    def redriven(self) -> int:
        """How often it was sent back to its queue before."""
        return _number(self._headers.get(REDRIVEN)) or 0

    @property
    def _headers(self) -> Mapping[str, Any]:
        return self.delivery.headers

    @property
    def _death(self) -> Mapping[str, Any]:
        """RabbitMQ's latest entry in ``x-death``; empty if a publisher wrote something else."""
        deaths = self._headers.get("x-death")
        latest = deaths[0] if isinstance(deaths, list) and deaths else None
        return latest if isinstance(latest, dict) else {}

    def to_message(self) -> Message:
        """The message as a redrive publishes it: to its own queue, and to no other.

        Its routing key is the queue's name; the original one stays in a header.
        """
        kept = {name: value for name, value in self._headers.items() if _is_kept(name)}
        headers = kept | {ROUTING_KEY: self.routing_key, REDRIVEN: self.redriven + 1}
        return _copy(self.delivery, "", self.queue.name, headers)


def _copy(
    delivery: Delivery, exchange: str, routing_key: str, headers: Mapping[str, Any]
) -> Message:
    return Message(
        exchange=exchange,
        routing_key=routing_key,
        body=delivery.body,
        message_id=delivery.message_id or str(events.new_id()),
        type=delivery.type or "unknown",
        content_type=delivery.content_type or "application/octet-stream",
        timestamp=delivery.timestamp,
        headers=headers,
    )


def _is_kept(header: str) -> bool:
    return header not in _REMOVED_BY_REDRIVE and not header.startswith(_BROKER_HEADERS)


def _text_of(error: Exception) -> str:
    """``error`` as text that UTF-8 can encode."""
    text = f"{type(error).__name__}: {error}"[:LONGEST_EXCEPTION]
    return text.encode(errors="backslashreplace").decode()


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
