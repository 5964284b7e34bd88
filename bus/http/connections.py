"""Who holds how many connections and how many bytes, and whom to disconnect when that is too much.

A connection that waits for its client can be spared: one that is silent, one whose head or body is
unfinished, one whose answer is not read. Where a share is used up, the connection that has waited
longest makes room, so a new client always gets in. A request that is complete is never cut off.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from bus.http import metrics
from bus.http.clients import TrustedProxies, network_of
from bus.http.limits import HttpLimits


class Tracked(Protocol):
    """A connection as the table counts it."""

    address: str
    # Bytes of its request, or of its unread answer. Only the table sets it.
    buffered: int

    def disconnect(self) -> None:
        """Drops the connection at once, with what is buffered."""

    def overdue(self, now: float) -> str | None:
        """Which deadline has passed at ``now``, of ``loop.time()``."""


Waiting = OrderedDict[Tracked, None]


@dataclass(slots=True)
class _Share:
    """The connections of one network, or all; ``waiting`` has the longest first."""

    most_connections: float
    most_buffered: float
    connections: int = 0
    buffered: int = 0
    waiting: Waiting = field(default_factory=OrderedDict)


class ConnectionTable:
    """All connections of one process. Not thread-safe: it belongs to the event loop.

    What comes from one of ``proxies``, and is not yet a client's, has no share of an address.
    """

    def __init__(self, limits: HttpLimits, proxies: TrustedProxies) -> None:
        self._limits = limits
        self._proxies = proxies
        self._connections: set[Tracked] = set()
        self._shares: dict[str, _Share] = {}
        self._all = _Share(limits.connections, limits.buffered)

    def add(self, connection: Tracked) -> bool:
        """Counts a new connection, which waits. False: there is no room for it."""
        self._connections.add(connection)
        metrics.CONNECTIONS.inc()
        self._join(connection)
        self.wait(connection)
        return self._make_room(connection)

    def remove(self, connection: Tracked) -> None:
        """Does nothing for one that is gone already."""
        if connection in self._connections:
            self.run(connection)
            self._leave(connection)
            self._connections.remove(connection)
            metrics.CONNECTIONS.dec()

    def wait(self, connection: Tracked) -> None:
        """The connection waits for its client from now on."""
        for share in self._shares_of(connection):
            share.waiting[connection] = None
            share.waiting.move_to_end(connection)

    def run(self, connection: Tracked) -> None:
        """The client waits for the server."""
        for share in self._shares_of(connection):
            share.waiting.pop(connection, None)

    def buffer(self, connection: Tracked, size: int) -> None:
        """The connection now holds ``size`` bytes."""
        added = size - connection.buffered
        if added and connection in self._connections:
            for share in self._shares_of(connection):
                share.buffered += added
            connection.buffered = size
            if added > 0:
                self._make_space(connection)

    def move(self, connection: Tracked, address: str) -> bool:
        """A proxy's connection has a request of the client at ``address``. False: that client
        has too many."""
        if address == connection.address or connection not in self._connections:
            return True
        is_waiting = connection in self._all.waiting
        self.run(connection)
        self._leave(connection)
        connection.address = address
        self._join(connection)
        if is_waiting:
            self.wait(connection)
        return self._make_room(connection)

    def sweep(self, now: float) -> None:
        """Disconnects every client whose deadline has passed."""
        for connection in list(self._all.waiting):
            if reason := connection.overdue(now):
                self._cut(connection, reason)

    def _make_room(self, newest: Tracked) -> bool:
        """Disconnects what has waited longest until the shares are kept; False if no other than
        ``newest`` is left for that."""
        for share in self._shares_of(newest):
            while share.connections > share.most_connections:
                victim = next(iter(share.waiting), newest)
                if victim is newest:
                    return False
                self._cut(victim, "connections")
        return True

    def _make_space(self, newest: Tracked) -> None:
        """The same for bytes; ``newest`` itself goes when no other has any."""
        for share in self._shares_of(newest):
            victims = (each for each in tuple(share.waiting) if each.buffered)
            while share.buffered > share.most_buffered and (victim := next(victims, None)):
                self._cut(victim, "buffered")

    def _cut(self, connection: Tracked, reason: str) -> None:
        metrics.DISCONNECTED.labels(reason).inc()
        self.remove(connection)
        connection.disconnect()

    def _shares_of(self, connection: Tracked) -> tuple[_Share, ...]:
        """That of its network, and that of all; none once it is removed."""
        if connection not in self._connections:
            return ()
        return self._shares[network_of(connection.address)], self._all

    def _join(self, connection: Tracked) -> None:
        network = network_of(connection.address)
        if network not in self._shares:
            self._shares[network] = self._new_share(connection.address)
        for share in self._shares_of(connection):
            share.connections += 1
            share.buffered += connection.buffered

    def _leave(self, connection: Tracked) -> None:
        network = network_of(connection.address)
        for share in self._shares_of(connection):
            share.connections -= 1
            share.buffered -= connection.buffered
        if not self._shares[network].connections:
            del self._shares[network]

    def _new_share(self, address: str) -> _Share:
        if address in self._proxies:
            return _Share(inf, inf)
        limits = self._limits
        return _Share(limits.connections_per_address, limits.buffered_per_address)
