"""What is on a RabbitMQ broker, as its management plugin's HTTP API tells it.

Counts of messages lag by up to ten seconds; names, arguments and bindings do not.
Source: https://www.rabbitmq.com/docs/management#http-api.
"""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Self, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

from bus.errors import BrokerUnavailable, SettingError, reason
from bus.runtime.settings import Environment

TIMEOUT = 5.0
ENABLE = "enable it with: rabbitmq-plugins enable rabbitmq_management, or set BROKER_API_URL"
# For the environment's proxies, which are for the outside, are none of the broker's.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Record = TypeVar("Record")


class ExchangeInfo(msgspec.Struct, frozen=True):
    name: str
    type: str
    durable: bool
    arguments: Mapping[str, Any] = {}


class QueueInfo(msgspec.Struct, frozen=True):
    """The counts are None until the broker has made its first statistics of a new queue.
    ``messages`` are more than those ready and those taken: one that has died stays on a quorum
    queue until its dead-letter queue has it."""

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


class Management:
    """The API of one virtual host; ``urls`` are those of the nodes, the first that answers is
    asked. Thread-safe. Every method raises BrokerUnavailable.
    """

    def __init__(self, urls: tuple[str, ...], vhost: str, user: str, password: str) -> None:
        self.urls = urls
        self.vhost = vhost
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Accept": "application/json"}

    @classmethod
    def from_url(cls, broker_url: str, api_url: str | None = None) -> Self:
        """For the virtual host of ``broker_url`` (amqp:// or amqps://, hosts separated by ``;``).

        ``api_url`` is where the API listens; where it carries no user, the broker's is taken. By
        default it is port 15672 of the broker's hosts (15671 and https for amqps), unless the
        broker's port is one of its own: then another broker may well be at 15672. Raises
        SettingError.
        """
        brokers = [_split("BROKER_URL", url) for url in broker_url.split(";")]
        api = _split("BROKER_API_URL", api_url) if api_url else None
        account = api if api and api.username else brokers[0]
        addresses = (_with_path(api),) if api else tuple(filter(None, map(_default, brokers)))
        return cls(
            addresses,
            unquote(brokers[0].path.removeprefix("/")) or "/",
            unquote(account.username or "guest"),
            unquote(account.password or "guest"),
        )

    @classmethod
    def from_environment(cls, environment: Environment) -> Self:
        """By BROKER_URL and BROKER_API_URL. Raises SettingError."""
        return cls.from_url(environment.broker_url(), environment.broker_api_url())

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
        for url in self.urls:
            try:
                return self._get(f"{url}/api/{what}/{quote(self.vhost, safe='')}", record)
            except BrokerUnavailable as error:
                failure = error
        raise failure

    def _get(self, url: str, record: type[Record]) -> list[Record]:
        request = urllib.request.Request(url, headers=self._headers)
        try:
            with _OPENER.open(request, timeout=TIMEOUT) as response:
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
