"""``chatbus asyncapi``: the bus and the socket as an AsyncAPI 3.0 document, out of the code.

Exchange, queues and bindings come from ``bus.topology``, payloads from the Structs that encode
and decode them, headers and properties from messages made as the processes make them.
Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, get_args

import msgspec

from bridge import protocol
from bus import events, topology
from bus.consuming.dead_letter import INVALID, to_dead_letter
from bus.errors import InvalidEvent
from bus.message import Delivery, Message
from bus.rpc import messages
from bus.runtime.settings import Environment
from bus.topology import CONSUMERS, EVENT_QUEUES, QUEUES, WEB_REQUESTS, Exchange, Queue

Json = dict[str, Any]
Kind = type[msgspec.Struct]

AMQP_BINDING = "0.3.0"
SCHEMAS = "#/components/schemas/"
JSON_TYPES = {str: "string", int: "integer"}

EVENTS: tuple[Kind, ...] = get_args(events.Event)
FROM_BROWSER: tuple[Kind, ...] = get_args(protocol.FromBrowser)
TO_BROWSER: tuple[Kind, ...] = get_args(protocol.ToBrowser)
ANSWERS: tuple[Kind, ...] = get_args(messages.Answer)
# Events on users' own channels: the same exchange, another form of routing key.
USERS = f"{topology.EVENTS.name}.users"
SOCKET = "socket"
DEAD_LETTER = "dead_letter"
REQUEST = "request"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Prints an AsyncAPI 3.0 document of the bus and the socket, as JSON."
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    print(json.dumps(document(), indent=2))
    return 0


def document() -> Json:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "chatbus",
            "version": version("chatbus"),
            "description": "Operations are those of chatbus: it sends on chat.events and receives "
            "from the queues. Delivery is at least once; tell events apart by their id.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": _server("amqp", "BROKER_URL", protocolVersion="0.9.1"),
            "bridge": _server("ws", "BRIDGE_URL; POST /api/socket-ticket answers with it"),
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _server(protocol_name: str, setting: str, **fields: str) -> Json:
    variable = {"description": f"From the setting {setting}."}
    return {"host": "{host}", "protocol": protocol_name, "variables": {"host": variable}} | fields


# Channels: the exchange, each queue, and the socket.


def _channels() -> Json:
    channels = {
        topology.EVENTS.name: _exchange(topology.EVENTS, _of_rooms(), "room_id", "/room_id"),
        USERS: _exchange(topology.EVENTS, _of_users(), "user_id", "/data/user_id"),
    }
    for queue in QUEUES:
        channels[queue.name] = _queue(queue, _messages_on(queue))
        if dead := queue.dead_letters:
            channels[dead.name] = _queue(dead, [DEAD_LETTER])
    replies = _replies()
    parameters = {"gateway": {"description": "Names the gateway that waits for the answer."}}
    channels[replies.name] = _queue(replies, map(_tag, ANSWERS)) | {"parameters": parameters}
    channels[SOCKET] = {
        "address": "/",
        "description": "JSON text frames, described in docs/protocol.md. The bridge closes a "
        f"socket with one of these codes:\n\n{_close_codes()}",
        "servers": [_ref("servers", "bridge")],
        "messages": _message_refs(map(_frame_name, FROM_BROWSER + TO_BROWSER)),
    }
    return channels


def _of_users() -> list[str]:
    return [_tag(kind) for kind in EVENTS if issubclass(kind, events.UserEnvelope)]


def _of_rooms() -> list[str]:
    return [tag for tag in map(_tag, EVENTS) if tag not in _of_users()]


def _exchange(exchange: Exchange, types: list[str], owner: str, path: str) -> Json:
    """Events of one kind of owner, whose id is at ``path`` in the payload."""
    key = events.routing_key(f"{{{owner}}}", types[0])
    return {
        "address": key.replace(types[0], "{type}"),
        "parameters": {
            owner: {"location": f"$message.payload#{path}"},
            "type": {"enum": types, "location": "$message.payload#/type"},
        },
        "servers": [_ref("servers", "broker")],
        "messages": _message_refs(types),
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {
                    "name": exchange.name,
                    "type": exchange.type,
                    "durable": True,
                    "autoDelete": False,
                },
                "x-arguments": exchange.arguments,
                "bindingVersion": AMQP_BINDING,
            }
        },
    }


def _queue(queue: Queue, messages: Iterable[str]) -> Json:
    return {
        "address": queue.name,
        "servers": [_ref("servers", "broker")],
        "messages": _message_refs(messages),
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {
                    "name": queue.name,
                    "durable": True,
                    "exclusive": False,
                    "autoDelete": False,
                },
                "x-arguments": dict(queue.arguments),
                "x-bindings": [
                    {"exchange": binding.exchange.name, "routing_key": binding.routing_key}
                    for binding in queue.bindings
                ],
                "bindingVersion": AMQP_BINDING,
            }
        },
    }


def _messages_on(queue: Queue) -> list[str]:
    """The names of what comes to one of QUEUES."""
    if queue == WEB_REQUESTS:
        return [REQUEST]
    return [tag for tag in map(_tag, EVENTS) if queue.takes(events.routing_key("any", tag))]


def _replies() -> Queue:
    return topology.reply_queue("{gateway}")


def _close_codes() -> str:
    return "\n".join(
        f"- {code.value}: {code.name.lower().replace('_', ' ')}" for code in protocol.Close
    )


# Operations: which end sends and receives what.


def _operations() -> Json:
    sample = events.to_message(_sample())
    operations = {
        "publish": _operation("send", topology.EVENTS.name, _delivery_mode(sample)),
        "publish_to_user": _operation("send", USERS, _delivery_mode(sample)),
        "answer_browser": _operation("send", SOCKET, messages=map(_frame_name, TO_BROWSER)),
        "hear_browser": _operation("receive", SOCKET, messages=map(_frame_name, FROM_BROWSER)),
    }
    for process, queue in CONSUMERS.items():
        operations[process] = _operation("receive", queue.name, {"ack": True})
        if dead := queue.dead_letters:
            operations[f"{process}_buries"] = _operation("send", dead.name)
    operations["request_worker"]["reply"] = {"channel": _ref("channels", _replies().name)}
    return operations


def _operation(
    action: str, channel: str, amqp: Json | None = None, messages: Iterable[str] = ()
) -> Json:
    """``messages``: which of the channel's; all of them if none is named."""
    operation: Json = {"action": action, "channel": _ref("channels", channel)}
    if amqp:
        operation["bindings"] = {"amqp": amqp | {"bindingVersion": AMQP_BINDING}}
    if some := [_ref("channels", channel, "messages", name) for name in messages]:
        operation["messages"] = some
    return operation


def _delivery_mode(message: Message) -> Json:
    return {"deliveryMode": 2 if message.persistent else 1, "timestamp": bool(message.timestamp)}


# Messages and the schemas of their payloads.


def _messages() -> Json:
    event = events.to_message(_sample())
    return {
        **{_tag(kind): _event(kind, event) for kind in EVENTS},
        DEAD_LETTER: _dead_letter(),
        REQUEST: _held_request(messages.HeldRequest),
        **{_tag(kind): _held_request(kind) for kind in ANSWERS},
        **{_frame_name(kind): _frame(kind) for kind in FROM_BROWSER + TO_BROWSER},
    }


def _event(kind: Kind, sample: Message) -> Json:
    return {
        "name": _tag(kind),
        "contentType": sample.content_type,
        "headers": _headers(sample.headers),
        "payload": _schema_ref(kind),
        "bindings": {"amqp": {"messageType": _tag(kind), "bindingVersion": AMQP_BINDING}},
    }


def _dead_letter() -> Json:
    delivery = Delivery(tag=None, body=b"", routing_key="", redelivered=False)
    letter = to_dead_letter(EVENT_QUEUES[0], delivery, INVALID, InvalidEvent(), attempts=0)
    return {
        "description": "What a consumer could not take, its body and its headers untouched.",
        "headers": _headers(letter.headers),
        "payload": {},
    }


def _held_request(kind: Kind) -> Json:
    return {
        "description": "What the schema has in Base64 are bytes in MessagePack.",
        "contentType": messages.CONTENT_TYPE,
        "payload": _schema_ref(kind),
    }


def _frame(kind: Kind) -> Json:
    return {"name": _tag(kind), "payload": _schema_ref(kind)}


def _headers(sample: Mapping[str, Any]) -> Json:
    properties = {name: {"type": JSON_TYPES[type(value)]} for name, value in sample.items()}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _schemas() -> Json:
    kinds = (*EVENTS, *FROM_BROWSER, *TO_BROWSER, messages.HeldRequest, *ANSWERS)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=f"{SCHEMAS}{{name}}")
    return schemas | {"Envelope": {"oneOf": [_schema_ref(kind) for kind in EVENTS]}}


def _sample() -> events.Event:
    actor, data = events.Person(1, "alice"), events.PostedData("hi")
    return events.make(events.MessagePosted, room_id=uuid.uuid4(), actor=actor, data=data)


def _tag(kind: Kind) -> str:
    """What the field ``type`` says in JSON."""
    return str(kind.__struct_config__.tag)


def _frame_name(kind: Kind) -> str:
    # The one type that goes both ways, with different fields.
    suffix = ".now" if kind is protocol.TypingNow else ""
    return f"frame.{_tag(kind)}{suffix}"


def _ref(*path: str) -> Json:
    return {"$ref": f"#/{'/'.join(path)}"}


def _message_refs(names: Iterable[str]) -> Json:
    return {name: _ref("components", "messages", name) for name in names}


def _schema_ref(kind: Kind) -> Json:
    return {"$ref": f"{SCHEMAS}{kind.__name__}"}
