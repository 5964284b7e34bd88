"""Who is on this bridge: its connections by address, and its sockets by user."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Protocol

from bridge import metrics
from bridge.protocol import SocketRefused
from bus.rooms.ended_sessions import TICKET_SECONDS


class SocketTransport(Protocol):
    """A connection as it is counted."""

    address: str

    def close(self, refused: SocketRefused) -> None: ...

    def abort(self) -> None: ...


class Guest(Protocol):
    """A socket with a ticket."""

    @property
    def user_id(self) -> int: ...

    def end_session(self, session: str) -> None:
        """The login session was ended: closes the socket if it is of that session."""
        ...


class ConnectionRegistry:
    """Everything that is open on one bridge."""

    def __init__(self) -> None:
        self.empty = asyncio.Event()
        self.empty.set()
        self._transports: set[SocketTransport] = set()
        self._addresses: Counter[str] = Counter()
        # A list each: of the usual one or two, it is the smallest container.
        self._guests: dict[int, list[Guest]] = {}
        # LogoutWatch that were ended lately, and when, the first one first.
        self._ended: dict[str, float] = {}

    @property
    def size(self) -> int:
        return len(self._transports)

    @property
    def transports(self) -> Sequence[SocketTransport]:
        return tuple(self._transports)

    def add(self, transport: SocketTransport) -> None:
        self._transports.add(transport)
        self._addresses[_network(transport.address)] += 1
        self.empty.clear()
        metrics.CONNECTIONS.inc()

    def remove(self, transport: SocketTransport) -> None:
        """Does nothing for one that was never added."""
        if transport not in self._transports:
            return
        self._transports.remove(transport)
        self._leave_address(transport.address)
        metrics.CONNECTIONS.dec()
        if not self._transports:
            self.empty.set()

    def move(self, transport: SocketTransport, address: str) -> None:
        """A proxy said whom ``transport`` is from."""
        self._leave_address(transport.address)
        transport.address = address
        self._addresses[_network(address)] += 1

    def at(self, address: str) -> int:
        """How many connections there are from where ``address`` is."""
        return self._addresses[_network(address)]

    def add_client(self, guest: Guest) -> None:
        """``guest`` has got in."""
        self._guests.setdefault(guest.user_id, []).append(guest)

    def remove_client(self, guest: Guest) -> None:
        guests = self._guests[guest.user_id]
        guests.remove(guest)
        if not guests:
            del self._guests[guest.user_id]

    def end_session(self, user_id: int, session: str) -> None:
        """Closes the sockets of a login session that was ended."""
        now = time.monotonic()
        self._ended[session] = now
        while (oldest := next(iter(self._ended))) and self._ended[oldest] < now - TICKET_SECONDS:
            del self._ended[oldest]
        for guest in self.guests(user_id):
            guest.end_session(session)

    def has_ended(self, session: str) -> bool:
        """Whether ``session`` was ended a moment ago, while its ticket was being checked."""
        return session in self._ended

    def guests(self, user_id: int) -> Sequence[Guest]:
        return tuple(self._guests.get(user_id, ()))

    def _leave_address(self, address: str) -> None:
        network = _network(address)
        self._addresses[network] -= 1
        if not self._addresses[network]:
            del self._addresses[network]


@lru_cache(maxsize=10_000)
def _network(address: str) -> str:
    """What one customer has: an address, of IPv6 all with the same first 64 bits (RFC 6177)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address  # as a proxy tells it
    if parsed.version == 4:
        return address
    return str(parsed.ipv4_mapped or int(parsed) >> 64)
