"""Reads what is on a RabbitMQ broker from the HTTP API of its management plugin.

Counts of messages lag by up to ten seconds; names, arguments and bindings do not.
Source: https://www.rabbitmq.com/docs/management#http-api.
"""

from __future__ import annotations

import base64
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

from bus.errors import BrokerUnavailable, SettingError, reason
from bus.runtime.settings import Environment
from bus.runtime.settings.urls import authorities_of

TIMEOUT = 5.0
ENABLE = "enable it with: rabbitmq-plugins enable rabbitmq_management, or set BROKER_API_URL"

Record = TypeVar("Record")


class ExchangeInfo(msgspec.Struct, frozen=True):
    name: str
    type: str
    durable: bool
    arguments: Mapping[str, Any] = {}


class QueueInfo(msgspec.Struct, frozen=True):
    """The counts are None until the broker has made its first statistics of a new queue.
    ``messages`` may exceed ready plus unacknowledged: a message that died stays on a quorum queue
    until its dead-letter queue has it."""

    name: str
    durable: bool
    arguments: Mapping[str, Any] = {}
    exclusive: bool = False
    consumers: int | None = None
    messages_ready: int | None = None
    messages_unacknowledged: int | None = None
    messages: int | None = None


class BindingInfo(msgspec.Struct, frozen=True):
    """``source`` is an exchange, "" the default one; ``destination_type`` queue or exchange."""

    source: str
    destination: str
    destination_type: str
    routing_key: str
    arguments: Mapping[str, Any] = {}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would send the password to wherever the answer points."""

    def redirect_request(self, *_: object) -> None:
        return None


class _Node:
    """The API of one node at ``url``, asked as ``user``. A certificate must be of one of
    ``authorities``, the file of them, or else of one of the system's."""

    def __init__(self, url: str, user: str, password: str, authorities: str | None) -> None:
        self.url = url
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Accept": "application/json"}
        # No proxies: those of the environment are for hosts outside, not for the broker.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if url.startswith("https:"):
            context = ssl.create_default_context(cafile=authorities)
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers, _NoRedirects)

    def get(self, path: str, record: type[Record]) -> list[Record]:
        """Raises BrokerUnavailable."""
        url = f"{self.url}/api/{path}"
        request = urllib.request.Request(url, headers=self._headers)
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                return msgspec.json.decode(response.read(), type=list[record])  # type: ignore[valid-type]
        except urllib.error.HTTPError as error:
            raise BrokerUnavailable(
                f"the management API: {url} answers {_refusal(error)}"
            ) from error
        except msgspec.DecodeError as error:
            raise BrokerUnavailable(
                f"{url} does not answer like the management API: {error}"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            why = reason(cause) if isinstance(cause, BaseException) else cause
            raise BrokerUnavailable(f"the management API: {url}: {why}; {ENABLE}") from error


class Management:
    """The API of one virtual host on ``nodes``. Each call asks the node that answered last, and
    the others when that fails. Thread-safe. Every method raises BrokerUnavailable.
    """

    def __init__(self, nodes: Iterable[_Node], vhost: str) -> None:
        self._nodes = tuple(nodes)
        self.vhost = vhost

    @classmethod
    def from_url(cls, broker_url: str, api_url: str | None = None) -> Self:
        """For the virtual host of ``broker_url`` (amqp:// or amqps://, hosts separated by ``;``).

        ``api_url`` is where the API listens, of several nodes separated by ``;``; where it names
        no user, the broker's is taken. By default it is port 15672 of the broker's hosts (15671
        and https for amqps), unless the broker's port is one of its own: then another broker may
        well be at 15672. Raises SettingError.
        """
        brokers = [_split("BROKER_URL", url) for url in broker_url.split(";")]
        if api_url:
            apis = [_split("BROKER_API_URL", url) for url in api_url.split(";")]
            nodes = [_node(api, _with_path(api), brokers[0]) for api in apis]
        else:
            nodes = [_node(broker, url) for broker in brokers if (url := _default(broker))]
        return cls(nodes, unquote(brokers[0].path.removeprefix("/")) or "/")

    @classmethod
    def from_environment(cls, environment: Environment) -> Self:
        """By BROKER_URL and BROKER_API_URL. Raises SettingError."""
        return cls.from_url(environment.broker_url(), environment.broker_api_url())

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(node.url for node in self._nodes)

    def exchanges(self) -> list[ExchangeInfo]:
        return self._list("exchanges", ExchangeInfo)

    def queues(self) -> list[QueueInfo]:
        return self._list("queues", QueueInfo)

    def bindings(self) -> list[BindingInfo]:
        return self._list("bindings", BindingInfo)

    def _list(self, what: str, record: type[Record]) -> list[Record]:
        failure = BrokerUnavailable(
            "the management API: the broker's port is not the usual one, so set BROKER_API_URL"
        )
        nodes = self._nodes
        for node in nodes:
            try:
                records = node.get(f"{what}/{quote(self.vhost, safe='')}", record)
            except BrokerUnavailable as error:
                failure = error
            else:
                self._nodes = (node, *(other for other in nodes if other is not node))
                return records
        raise failure


def _node(api: SplitResult, url: str, account: SplitResult | None = None) -> _Node:
    """The node at ``url``, by the user of ``api``, or of ``account`` if that names none."""
    login = api if api.username or not account else account
    user, password = unquote(login.username or "guest"), unquote(login.password or "guest")
    return _Node(url, user, password, authorities_of(api.geturl()))


def _split(setting: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise SettingError(setting, "names no host and port that can be read")


def _with_path(api: SplitResult) -> str:
    return f"{api.scheme}://{api.netloc.rpartition('@')[2]}{api.path.rstrip('/')}"


def _default(broker: SplitResult) -> str | None:
    """Where the API of ``broker`` listens if it is set up as RabbitMQ comes."""
    own, port, scheme = (
        (5671, 15671, "https") if broker.scheme == "amqps" else (5672, 15672, "http")
    )
    host = f"[{broker.hostname}]" if ":" in (broker.hostname or "") else broker.hostname
    return f"{scheme}://{host}:{port}" if broker.port in (None, own) else None


def _refusal(error: urllib.error.HTTPError) -> str:
    hints = {
        401: "the user needs the tag management: rabbitmqctl set_user_tags USER management",
        404: "is the virtual host's name right?",
    }
    hint = hints.get(error.code)
    return f"{error.code} {error.reason}" + (f"; {hint}" if hint else "")
