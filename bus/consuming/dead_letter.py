"""A dead letter: why a message was dead-lettered, and the message that a redrive makes of it.

The header names stand here once, for both directions. A consumer dead-letters a message with
``x-reason`` and its companions (``to_dead_letter``); RabbitMQ itself, at the delivery limit or
when a message is rejected or expires, with ``x-death`` (https://www.rabbitmq.com/docs/dlx#effects).
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

_REMOVED_BY_REDRIVE = frozenset({REASON, EXCEPTION, CONSUMER, TIME, ATTEMPTS})
_BROKER_HEADERS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count")
LONGEST_EXCEPTION = 1_000


def to_dead_letter(
    queue: Queue, delivery: Delivery, reason: str, error: Exception, attempts: int
) -> Message:
    """``delivery`` as it goes to ``<queue>.dead``: the body untouched, the reason in headers.

    ``attempts`` is how often the sink got it alone. A message that was redriven before keeps the
    routing key that it was published with.
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
    """A message among the dead letters of ``queue``. What nobody has noted is None."""

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
        """When it died: RFC 3339, of a letter that RabbitMQ buried to the second."""
        time = self._headers.get(TIME) or self._death.get("time")
        return events.format_time(time) if isinstance(time, datetime) else _text(time)

    @property
    def routing_key(self) -> str:
        """The one that it was published with at first."""
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
        """RabbitMQ's latest note, unless somebody else has written something there."""
        deaths = self._headers.get("x-death")
        latest = deaths[0] if isinstance(deaths, list) and deaths else None
        return latest if isinstance(latest, dict) else {}

    def to_message(self) -> Message:
        """The message as it goes to its own queue again, and to no other one.

        Its routing key there is the queue's name; the original one stays in a header.
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
    """Without what UTF-8 cannot encode."""
    text = f"{type(error).__name__}: {error}"[:LONGEST_EXCEPTION]
    return text.encode(errors="backslashreplace").decode()


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
