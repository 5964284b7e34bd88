"""One dead letter: why it is dead, and the message that it becomes when it is tried again.

A consumer of ours buries a message with ``x-reason`` and its companions (``bus.burial``);
RabbitMQ itself, at the delivery limit or when a message is rejected or expires, with ``x-death``
(https://www.rabbitmq.com/docs/dlx#effects).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bus import events
from bus.message import Delivery, Message
from bus.topology import Queue

ROUTING_KEY = "x-routing-key"
REDRIVEN = "x-redriven"
# What a burial adds; a letter that is tried again starts without it.
_BURIAL = frozenset({"x-reason", "x-exception", "x-consumer", "x-time", "x-attempts"})
_BURIAL_BY_BROKER = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count")


@dataclass(frozen=True, slots=True)
class Letter:
    """A message among the dead letters of ``queue``. What nobody has noted is None."""

    queue: Queue
    delivery: Delivery

    @property
    def id(self) -> str | None:
        return self.delivery.message_id

    @property
    def reason(self) -> str:
        return _text(self._headers.get("x-reason") or self._death.get("reason")) or "unknown"

    @property
    def exception(self) -> str | None:
        return _text(self._headers.get("x-exception"))

    @property
    def consumer(self) -> str | None:
        return _text(self._headers.get("x-consumer"))

    @property
    def attempts(self) -> int | None:
        return _number(self._headers.get("x-attempts"))

    @property
    def time(self) -> str | None:
        """When it died: RFC 3339, of a letter that RabbitMQ buried to the second."""
        time = self._headers.get("x-time") or self._death.get("time")
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
        delivery = self.delivery
        headers = {name: value for name, value in self._headers.items() if not _is_burial(name)}
        return Message(
            exchange="",
            routing_key=self.queue.name,
            body=delivery.body,
            message_id=delivery.message_id or str(events.new_id()),
            type=delivery.type or "unknown",
            content_type=delivery.content_type or "application/octet-stream",
            timestamp=delivery.timestamp,
            headers=headers | {ROUTING_KEY: self.routing_key, REDRIVEN: self.redriven + 1},
        )


def _is_burial(header: str) -> bool:
    return header in _BURIAL or header.startswith(_BURIAL_BY_BROKER)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
