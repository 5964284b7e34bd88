"""uvicorn as a library: listening, limits on slow clients, signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bus.errors import SettingError
from bus.runtime.process import notify_ready, on_stop_signals

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 15.0
BACKLOG = 2048


class BoundedH11Protocol(H11Protocol):
    """uvicorn's protocol with a deadline for bytes that the application does not wait for.

    uvicorn would wait without end for the rest of a head, and for the rest of a body whose request
    has been answered.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _watch(self) -> None:
        in_head = self.conn.their_state is h11.IDLE
        in_unread_body = self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE
        if not (in_head or in_unread_body):
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


class GatewayServer(uvicorn.Server):
    """Reports when it is ready, and leaves the signals to ``bus.runtime.process``."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        on_stop_signals(self._exit)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        notify_ready()

    def _exit(self) -> None:
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises SettingError when the address is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingError(
            "GATEWAY_PORT", f"cannot listen on {host}:{port}: {error.strerror or error}"
        ) from error


def serve(
    application: Any, listener: socket.socket, *, proxies: tuple[str, ...], grace: float
) -> None:
    """Serves until SIGTERM or SIGINT; running requests get ``grace`` seconds to finish.

    X-Forwarded-For and -Proto are trusted when they come from ``proxies``.
    """
    config = uvicorn.Config(
        application,
        http=BoundedH11Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_graceful_shutdown=int(grace) + 1,
    )
    GatewayServer(config).run([listener])
