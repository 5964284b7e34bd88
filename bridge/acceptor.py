"""Admission control, and draining on shutdown."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus

from websockets.http11 import Request

from bridge import metrics
from bridge.hub.registry import ConnectionRegistry, TrackedConnection
from bridge.limits import Limits
from bridge.protocol import Close, SocketRefused

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5
# A bridge with few sockets drains no slower than this.
DRAINED_PER_SECOND = 100


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer instead of a handshake. ``retry_after`` is in seconds, None for no such header."""

    status: HTTPStatus
    text: str
    retry_after: int | None = None


class Acceptor:
    """Decides which connections become sockets, and closes all of them when the bridge stops.

    ``problem`` returns what keeps the bridge from working, or None. X-Forwarded-For is trusted
    when it comes from one of ``proxies``. Nothing here waits, except ``drain``.
    """

    def __init__(
        self,
        limits: Limits,
        registry: ConnectionRegistry,
        *,
        proxies: Iterable[str] = (),
        problem: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._limits = limits
        self._registry = registry
        self._proxies = frozenset(proxies)
        self._problem = problem
        self._is_draining = False

    def admit(self, connection: TrackedConnection) -> bool:
        """Counts a new connection. False: too many are open to answer it; cut it off."""
        if self._registry.size >= self._limits.sockets + self._limits.turned_away:
            metrics.TURNED_AWAY.labels("sockets").inc()
            return False
        of_address = self._registry.at(connection.address)
        most = self._limits.sockets_per_address + self._limits.turned_away
        if of_address >= most and connection.address not in self._proxies:
            metrics.TURNED_AWAY.labels("address").inc()
            return False
        self._registry.add(connection)
        return True

    def answer(self, connection: TrackedConnection, request: Request) -> HttpAnswer | None:
        """The answer to ``request`` instead of a handshake; None for a handshake."""
        match request.path:
            case "/health/live":
                return HttpAnswer(HTTPStatus.OK, "live\n")
            case "/health/ready":
                problem = self._problem()
                status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
                return HttpAnswer(status, f"{problem or 'ready'}\n")
        if self._is_draining:
            return _turn_away(HTTPStatus.SERVICE_UNAVAILABLE, "draining")
        if connection.address in self._proxies:
            self._registry.move(connection, self._client_address(connection, request))
        if self._registry.size > self._limits.sockets:
            return _turn_away(HTTPStatus.SERVICE_UNAVAILABLE, "sockets")
        if self._registry.at(connection.address) > self._limits.sockets_per_address:
            return _turn_away(HTTPStatus.TOO_MANY_REQUESTS, "address")
        return None

    def release(self, connection: TrackedConnection) -> None:
        """The connection is closed; does nothing for one that was not admitted."""
        self._registry.remove(connection)

    async def drain(self, seconds: float) -> None:
        """Closes all sockets with 1012, spread over at most ``seconds`` so that the browsers do
        not all reconnect at once.

        Returns when all have gone; those that do not answer the close are cut off.
        """
        # A handshake that finishes from now on would miss the close below.
        self._is_draining = True
        restarting = SocketRefused(Close.RESTARTING, "the server restarts; connect again")
        loop = asyncio.get_running_loop()
        window = min(seconds, self._registry.size / DRAINED_PER_SECOND)
        for connection in self._registry.connections:
            loop.call_later(random.uniform(0, window), connection.close, restarting)
        try:
            async with asyncio.timeout(window + self._limits.close):
                await self._registry.empty.wait()
        except TimeoutError:
            logger.info("cutting off %d connections", self._registry.size)
        for connection in self._registry.connections:
            connection.abort()

    def _client_address(self, connection: TrackedConnection, request: Request) -> str:
        """The last address in X-Forwarded-For that is not a trusted proxy."""
        forwarded = ",".join(request.headers.get_all("X-Forwarded-For"))
        addresses = [address.strip() for address in forwarded.split(",") if address.strip()]
        clients = [address for address in addresses if address not in self._proxies]
        return clients[-1] if clients else connection.address


def _turn_away(status: HTTPStatus, why: str) -> HttpAnswer:
    metrics.TURNED_AWAY.labels(why).inc()
    text = f"Turned away ({why}). Try again in a few seconds.\n"
    return HttpAnswer(status, text, retry_after=RETRY_SECONDS)
