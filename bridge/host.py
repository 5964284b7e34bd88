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
from bridge.asides import Asides
from bridge.backlogs import Backlogs
from bridge.census import Census
from bridge.compression import extensions
from bridge.connection import Connection
from bridge.protocol import Close, Refused
from bridge.rooms import Rooms
from bridge.settings import BridgeSettings
from bridge.tickets import TicketDesk
from bridge.wire import Wire

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5
# So few are sent away no slower than this.
DRAINED_PER_SECOND = 100


class Host:
    """A ``bridge.wire.Host``.

    ``problem`` says what keeps the bridge from its work, or None. X-Forwarded-For is believed
    when it comes from one of ``settings.proxies``.
    """

    def __init__(
        self,
        settings: BridgeSettings,
        *,
        desk: TicketDesk,
        rooms: Rooms,
        asides: Asides,
        census: Census,
        problem: Callable[[], str | None],
    ) -> None:
        self.limits = settings.limits
        self.backlogs = Backlogs(asyncio.get_running_loop(), self.limits)
        self.extensions = extensions(settings.compression)
        self.origins = tuple(Origin(origin) for origin in settings.origins)
        self._desk = desk
        self._rooms = rooms
        self._asides = asides
        self._proxies = frozenset(settings.proxies)
        self._problem = problem
        self._census = census
        self._is_draining = False

    def connected(self, wire: Wire) -> bool:
        if self._census.size >= self.limits.sockets + self.limits.turned_away:
            metrics.TURNED_AWAY.labels("sockets").inc()
            return False
        of_address = self._census.at(wire.address)
        most = self.limits.sockets_per_address + self.limits.turned_away
        if of_address >= most and wire.address not in self._proxies:
            metrics.TURNED_AWAY.labels("address").inc()
            return False
        self._census.add(wire)
        return True

    def answer(self, wire: Wire, request: Request) -> Response | None:
        match request.path:
            case "/health/live":
                return wire.reject(HTTPStatus.OK, "live\n")
            case "/health/ready":
                problem = self._problem()
                status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
                return wire.reject(status, f"{problem or 'ready'}\n")
        if self._is_draining:
            return self._turn_away(wire, HTTPStatus.SERVICE_UNAVAILABLE, "draining")
        if wire.address in self._proxies:
            self._census.move(wire, self._client(wire, request))
        if self._census.size > self.limits.sockets:
            return self._turn_away(wire, HTTPStatus.SERVICE_UNAVAILABLE, "sockets")
        if self._census.at(wire.address) > self.limits.sockets_per_address:
            return self._turn_away(wire, HTTPStatus.TOO_MANY_REQUESTS, "address")
        return None

    def opened(self, wire: Wire) -> Connection:
        return Connection(wire, self._desk, self._rooms, self._asides, self._census, self.limits)

    def gone(self, wire: Wire) -> None:
        self._census.remove(wire)

    async def drain(self, seconds: float) -> None:
        """Sends everybody away with 1012, spread over ``seconds`` at most, so that they do not
        all come back at once; ends when they have gone, and cuts off who does not take part."""
        # Whose handshake comes only now would not be among those who are told.
        self._is_draining = True
        restarting = Refused(Close.RESTARTING, "the server restarts; connect again")
        loop = asyncio.get_running_loop()
        window = min(seconds, self._census.size / DRAINED_PER_SECOND)
        for wire in self._census.wires:
            loop.call_later(random.uniform(0, window), wire.close, restarting)
        try:
            async with asyncio.timeout(window + self.limits.close):
                await self._census.empty.wait()
        except TimeoutError:
            logger.info("%d connections are cut off", self._census.size)
        for wire in self._census.wires:
            wire.abort()

    def _turn_away(self, wire: Wire, status: HTTPStatus, why: str) -> Response:
        metrics.TURNED_AWAY.labels(why).inc()
        response = wire.reject(status, f"Turned away ({why}). Try again in a few seconds.\n")
        response.headers["Retry-After"] = str(RETRY_SECONDS)
        return response

    def _client(self, wire: Wire, request: Request) -> str:
        """The last address that no proxy of ours has, as the proxies tell it."""
        told = ",".join(request.headers.get_all("X-Forwarded-For"))
        addresses = [address.strip() for address in told.split(",") if address.strip()]
        strangers = [address for address in addresses if address not in self._proxies]
        return strangers[-1] if strangers else wire.address
