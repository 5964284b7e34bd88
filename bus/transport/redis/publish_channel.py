"""Publishing through kombu's Redis transport: the broker of `chatbus up` when none is given.

That transport has no confirms: the server's answer to the write is the confirm. It has no
returned messages either, so this looks for a missing binding first. Connection, bindings and the
messages' form are kombu's. The write is not, because kombu pushes to one queue after the other.

A message that is not persistent carries the server's ``run_id``. After a restart the server may
have forgotten that it delivered the message, so a message of an earlier run counts as redelivered.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bus.errors import BrokerUnavailable, InvalidMessage, PublishRefused
from bus.message import Message
from bus.topology import EXCHANGES, MAX_PRIORITY, Queue
from bus.transport.interfaces import PublishRequest
from bus.transport.redis.admin import RedisAdmin

_TYPES = {exchange.name: exchange.type for exchange in EXCHANGES}
_PROPERTIES = ("message_id", "type", "timestamp", "correlation_id", "reply_to")


class RedisPublishChannel:
    """Publishes over an admin connection of its own. See ``PublishChannel``."""

    def __init__(self, url: str, queues: tuple[Queue, ...]) -> None:
        self._admin = RedisAdmin(url)
        self._channel: Any = self._admin.channel
        try:
            self._run_id = self._admin.run_id()
            self._admin.declare(queues)
        except BrokerUnavailable:
            self.close()
            raise

    def close(self) -> None:
        self._admin.close()

    def is_alive(self) -> bool:
        """Asks the server, because a connection that breaks while publishing leaves it unknown
        whether the messages are there. False after a restart of the server, which may have lost
        bindings."""
        try:
            return self._admin.run_id() == self._run_id
        except BrokerUnavailable:
            return False

    def publish(self, batch: list[PublishRequest]) -> None:
        """All messages of ``batch`` reach all their queues in one transaction, or none does."""
        with (
            self._admin.broker_errors("publish to Redis"),
            self._admin.client.pipeline(transaction=True) as pipeline,
        ):
            routes = _Routes(self._channel)
            for request in batch:
                for key, payload in self._pushes(request, routes):
                    pipeline.lpush(key, payload)
            pipeline.execute()
        for request in batch:
            request.settle()

    def _pushes(self, request: PublishRequest, routes: _Routes) -> list[tuple[str, bytes]]:
        """List and payload of each write for ``request``; none when one cannot be encoded."""
        pushes = []
        for message in request.messages:
            queues = routes.of(message)
            if not queues:
                request.refuse(PublishRefused(f"no queue takes {message.routing_key}"))
            # On RabbitMQ 9 goes first, on this transport 0 does.
            priority = 0 if message.priority is None else MAX_PRIORITY - message.priority
            try:
                payload = self._payload(message, priority)
            except (TypeError, ValueError, msgspec.MsgspecError) as error:
                request.refuse(
                    InvalidMessage(f"message {message.message_id} cannot be encoded: {error!r}")
                )
                return []
            pushes += [(self._channel._q_for_pri(queue, priority), payload) for queue in queues]
        return pushes

    def _payload(self, message: Message, priority: int) -> bytes:
        """``message`` as kombu's virtual transports write it."""
        properties = {name: getattr(message, name) for name in _PROPERTIES}
        payload = self._channel.prepare_message(
            message.body,
            priority=priority,
            content_type=message.content_type,
            content_encoding="binary",
            headers=dict(message.headers),
            properties={name: value for name, value in properties.items() if value is not None},
        )
        self._channel._inplace_augment_message(payload, message.exchange, message.routing_key)
        if not message.persistent:
            payload["properties"]["delivery_info"]["run_id"] = self._run_id
        return msgspec.json.encode(payload)


class _Routes:
    """The bindings as they are now: read once a batch, because nothing reports a missing one."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._tables: dict[str, list[tuple[str, Any, str]]] = {}

    def of(self, message: Message) -> list[str]:
        """The names of the queues that take ``message``."""
        name, channel = message.exchange, self._channel
        if not name:
            return [message.routing_key]
        if name not in _TYPES:
            return []
        if name not in self._tables:
            self._tables[name] = channel.get_table(name)
        # Not asked of kombu: it knows an exchange only in the processes that declare it.
        exchange = channel.exchange_types[_TYPES[name]]
        return list(exchange.lookup(self._tables[name], name, message.routing_key, None))
