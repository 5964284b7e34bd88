"""The bridge's front door: which connections become sockets, and how all of them are sent home."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from http import HTTPStatus

from websockets.http11 import Request, Response
from websockets.typing import Origin

from bridge import metrics
from bridge.client.compression import extensions
from bridge.client.connection import Connection
from bridge.client.slow_readers import SlowReaders
from bridge.client.tickets import TicketVerifier
from bridge.client.transport import SocketTransport
from bridge.hub.hub import Hub
from bridge.hub.presence import PresenceReporter
from bridge.hub.registry import ConnectionRegistry
from bridge.protocol import Close, SocketRefused
from bridge.settings import BridgeSettings

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5
# So few are sent away no slower than this.
DRAINED_PER_SECOND = 100


class Acceptor:
    """A ``bridge.client.transport.Acceptor``.

    ``problem`` says what keeps the bridge from its work, or None. X-Forwarded-For is believed
    when it comes from one of ``settings.proxies``.
    """

    def __init__(
        self,
        settings: BridgeSettings,
        *,
        verifier: TicketVerifier,
        rooms: Hub,
        asides: PresenceReporter,
        registry: ConnectionRegistry,
        problem: Callable[[], str | None],
    ) -> None:
        self.limits = settings.limits
        self.backlogs = SlowReaders(asyncio.get_running_loop(), self.limits)
        self.extensions = extensions(settings.compression)
        self.origins = tuple(Origin(origin) for origin in settings.origins)
        self._verifier = verifier
        self._rooms = rooms
        self._asides = asides
        self._proxies = frozenset(settings.proxies)
        self._problem = problem
        self._registry = registry
        self._is_draining = False

    def connected(self, transport: SocketTransport) -> bool:
        if self._registry.size >= self.limits.sockets + self.limits.turned_away:
            metrics.TURNED_AWAY.labels("sockets").inc()
            return False
        of_address = self._registry.at(transport.address)
        most = self.limits.sockets_per_address + self.limits.turned_away
        if of_address >= most and transport.address not in self._proxies:
            metrics.TURNED_AWAY.labels("address").inc()
            return False
        self._registry.add(transport)
        return True

    def answer(self, transport: SocketTransport, request: Request) -> Response | None:
        match request.path:
            case "/health/live":
                return transport.reject(HTTPStatus.OK, "live\n")
            case "/health/ready":
                problem = self._problem()
                status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
                return transport.reject(status, f"{problem or 'ready'}\n")
        if self._is_draining:
            return self._turn_away(transport, HTTPStatus.SERVICE_UNAVAILABLE, "draining")
        if transport.address in self._proxies:
            self._registry.move(transport, self._client(transport, request))
        if self._registry.size > self.limits.sockets:
            return self._turn_away(transport, HTTPStatus.SERVICE_UNAVAILABLE, "sockets")
        if self._registry.at(transport.address) > self.limits.sockets_per_address:
            return self._turn_away(transport, HTTPStatus.TOO_MANY_REQUESTS, "address")
        return None

    def opened(self, transport: SocketTransport) -> Connection:
        return Connection(
            transport, self._verifier, self._rooms, self._asides, self._registry, self.limits
        )

    def gone(self, transport: SocketTransport) -> None:
        self._registry.remove(transport)

    async def drain(self, seconds: float) -> None:
        """Sends everybody away with 1012, spread over ``seconds`` at most, so that they do not
        all come back at once; ends when they have gone, and cuts off who does not take part."""
        # Whose handshake comes only now would not be among those who are told.
        self._is_draining = True
        restarting = SocketRefused(Close.RESTARTING, "the server restarts; connect again")
        loop = asyncio.get_running_loop()
        window = min(seconds, self._registry.size / DRAINED_PER_SECOND)
        for transport in self._registry.transports:
            loop.call_later(random.uniform(0, window), transport.close, restarting)
        try:
            async with asyncio.timeout(window + self.limits.close):
                await self._registry.empty.wait()
        except TimeoutError:
            logger.info("%d connections are cut off", self._registry.size)
        for transport in self._registry.transports:
            transport.abort()

    def _turn_away(self, transport: SocketTransport, status: HTTPStatus, why: str) -> Response:
        metrics.TURNED_AWAY.labels(why).inc()
        response = transport.reject(status, f"Turned away ({why}). Try again in a few seconds.\n")
        response.headers["Retry-After"] = str(RETRY_SECONDS)
        return response

    def _client(self, transport: SocketTransport, request: Request) -> str:
        """The last address that no proxy of ours has, as the proxies tell it."""
        told = ",".join(request.headers.get_all("X-Forwarded-For"))
        addresses = [address.strip() for address in told.split(",") if address.strip()]
        strangers = [address for address in addresses if address not in self._proxies]
        return strangers[-1] if strangers else transport.address
