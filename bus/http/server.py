"""uvicorn as a library: listening, the bounded protocol, its deadlines, a graceful stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import uvicorn

from bus.errors import SettingError
from bus.http.clients import TrustedProxies
from bus.http.connections import ConnectionTable
from bus.http.limits import HttpLimits
from bus.http.protocol import BoundedProtocol
from bus.runtime.process import on_stop_signals, return_large_blocks

BACKLOG = 2048


class HttpServer(uvicorn.Server):
    """Serves the ASGI ``application`` until ``should_exit``.

    Requests that run at that time get ``grace`` seconds to finish. ``on_ready`` is called once it
    accepts connections, ``on_alive`` each second or so.
    """

    def __init__(
        self,
        application: Any,
        limits: HttpLimits,
        proxies: TrustedProxies,
        *,
        grace: float,
        on_ready: Callable[[], None] = lambda: None,
        on_alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._limits = limits
        self._table = ConnectionTable(limits, proxies)
        self._on_ready = on_ready
        self._on_alive = on_alive
        super().__init__(
            uvicorn.Config(
                application,
                http=partial(BoundedProtocol, limits, self._table, proxies),  # type: ignore[arg-type]
                # Only asyncio's own loop calls pause_writing for what the socket did not take.
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=limits.idle,  # type: ignore[arg-type]
                timeout_graceful_shutdown=int(grace) + 1,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leaves the signals to the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        return_large_blocks()
        await super().startup(sockets)
        self._sweep(asyncio.get_running_loop())
        self._on_ready()

    def stop(self) -> None:
        self.should_exit = True

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Again and again, also while the server stops: slow clients must not hold that up."""
        loop.call_later(self._limits.sweep, self._sweep, loop)
        self._on_alive()
        self._table.sweep(loop.time())


def listen(setting: str, host: str, port: int) -> socket.socket:
    """A listening socket. Raises SettingError, with the name of ``setting``, when the address is
    not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or error
        raise SettingError(setting, f"cannot listen on {host}:{port}: {reason}") from error


def serve(server: HttpServer, listener: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT."""
    on_stop_signals(server.stop)
    server.run([listener])
