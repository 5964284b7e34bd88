"""What ``chatbus up`` makes sure of before it starts anything."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from bus.errors import RetryableError, SettingError
from bus.runtime.settings import Environment
from bus.ticket import KeySet
from deploy.local.ports import authority
from deploy.processes import bridge_workers, load

REACH_SECONDS = 5.0
URLS = ("DATABASE_URL", "BROKER_URL", "REDIS_URL", "MONGO_URL")
DEFAULT_PORTS = {
    "amqp": 5672,
    "amqps": 5671,
    "redis": 6379,
    "rediss": 6379,
    "mongodb": 27017,
    "mysql": 3306,
}
# MySQL's client takes this name for its Unix socket.
SOCKET_BY_NAME = ("mysql", "localhost")


class ServerUnreachable(RetryableError):
    """No host of a given URL answers."""

    def __init__(self, name: str, address: str, reason: str) -> None:
        super().__init__(f"{name}: nothing answers at {address} ({reason}); is that server up?")


def check_settings(environment: Environment) -> None:
    """Raises SettingError for a setting that is given and cannot be used."""
    for name in (*URLS, "BROKER_API_URL"):
        environment.optional_url(name)
    if bridge_workers(environment) > 1:
        more = "run several with: chatbus run bridge --workers N"
        raise SettingError("BRIDGE_WORKERS", f"chatbus up runs one bridge; {more}")
    environment.ca_file()
    if environment.values.get("EMAIL_URL"):
        load("webapp.mail.transport", extra="web").transport_from(environment)
    environment.allowed_hosts()
    environment.origins()
    environment.bridge_url()
    if environment.values.get("SECRET_KEY"):
        environment.secret("SECRET_KEY")
    if environment.values.get("TICKET_KEYS"):
        KeySet.from_environment(environment)


def check_ports(host: str, ports: Mapping[str, int]) -> None:
    """Raises SettingError when one of ``ports``, by the name of its process, is not free."""
    for process, port in ports.items():
        try:
            _bind(host, port)
        except socket.gaierror as error:
            raise SettingError("--host", f"{host!r}: {error.strerror}") from error
        except OSError as error:
            raise SettingError(
                "--port",
                f"{process} cannot listen on {authority(host, port)}: {error.strerror}; choose "
                "another (web takes --port, bridge and gateway the next two; the ports after them "
                "are for the processes' health and metrics)",
            ) from error


def check_reachable(urls: Mapping[str, str]) -> None:
    """Raises ServerUnreachable when none of the hosts of a given URL takes a connection."""
    for name in URLS:
        addresses = addresses_of(urls.get(name, ""))
        failures = [failure for address in addresses if (failure := _try(address))]
        if addresses and len(failures) == len(addresses):
            raise ServerUnreachable(name, authority(*addresses[0]), failures[0])


def _bind(host: str, port: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # As the servers do it: a connection of the last run that still lingers is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen()


def _try(address: tuple[str, int]) -> str | None:
    try:
        socket.create_connection(address, REACH_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def addresses_of(urls: str) -> list[tuple[str, int]]:
    """The hosts that a URL names, with their ports; several are separated by ``;`` or ``,``.

    A URL without hosts, such as that of a SQLite file or of a Unix socket, has none. Raises
    ValueError.
    """
    found = []
    for url in urls.split(";"):
        scheme, netloc = urlsplit(url)[:2]
        for host in netloc.rpartition("@")[2].split(","):
            parts = urlsplit(f"//{host}")
            port = parts.port or DEFAULT_PORTS.get(scheme)
            if parts.hostname and port and (scheme, parts.hostname) != SOCKET_BY_NAME:
                found.append((parts.hostname, port))
    return found
