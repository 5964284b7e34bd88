"""The connections of this bridge: all of them by address, those with a ticket by user."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from bridge import metrics
from bridge.protocol import SocketRefused
from bus.http.clients import network_of
from bus.rooms.ended_sessions import TICKET_SECONDS


class TrackedConnection(Protocol):
    """A TCP connection as the registry counts it."""

    address: str

    def close(self, refused: SocketRefused) -> None: ...

    def abort(self) -> None: ...


class Client(Protocol):
    """A socket with a ticket."""

    @property
    def user_id(self) -> int: ...

    def end_session(self, session: str) -> None:
        """The login session has ended: closes the socket if it belongs to that session."""
        ...


class ConnectionRegistry:
    """Everything that is open on one bridge."""

    def __init__(self) -> None:
        self.empty = asyncio.Event()
        self.empty.set()
        self._connections: set[TrackedConnection] = set()
        self._addresses: Counter[str] = Counter()
        # A list for each user: of the usual one or two, it is the smallest container.
        self._clients: dict[int, list[Client]] = {}
        # Sessions that ended recently, and when, oldest first.
        self._ended: dict[str, float] = {}

    @property
    def size(self) -> int:
        return len(self._connections)

    @property
    def connections(self) -> Sequence[TrackedConnection]:
        return tuple(self._connections)

    def add(self, connection: TrackedConnection) -> None:
        self._connections.add(connection)
        self._addresses[network_of(connection.address)] += 1
        self.empty.clear()
        metrics.CONNECTIONS.inc()

    def remove(self, connection: TrackedConnection) -> None:
        """Does nothing for one that was never added."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        self._leave_address(connection.address)
        metrics.CONNECTIONS.dec()
        if not self._connections:
            self.empty.set()

    def move(self, connection: TrackedConnection, address: str) -> None:
        """A proxy reported ``address`` as the client of ``connection``."""
        self._leave_address(connection.address)
        connection.address = address
        self._addresses[network_of(address)] += 1

    def at(self, address: str) -> int:
        """How many connections come from the network of ``address``."""
        return self._addresses[network_of(address)]

    def add_client(self, client: Client) -> None:
        self._clients.setdefault(client.user_id, []).append(client)

    def remove_client(self, client: Client) -> None:
        clients = self._clients[client.user_id]
        clients.remove(client)
        if not clients:
            del self._clients[client.user_id]

    def clients_of(self, user_id: int) -> Sequence[Client]:
        return tuple(self._clients.get(user_id, ()))

    def end_session(self, user_id: int, session: str) -> None:
        """Closes the sockets of a login session that has ended."""
        now = time.monotonic()
        self._ended[session] = now
        while (oldest := next(iter(self._ended))) and self._ended[oldest] < now - TICKET_SECONDS:
            del self._ended[oldest]
        for client in self.clients_of(user_id):
            client.end_session(session)

    def has_ended(self, session: str) -> bool:
        """Whether ``session`` ended recently, perhaps while its ticket was being checked."""
        return session in self._ended

    def _leave_address(self, address: str) -> None:
        network = network_of(address)
        self._addresses[network] -= 1
        if not self._addresses[network]:
            del self._addresses[network]
