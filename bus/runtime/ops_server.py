"""Each process's second listener, for operators: liveness, readiness and metrics.

It serves ``/health/live``, ``/health/ready`` and ``/metrics`` on OPS_HOST:OPS_PORT, in a thread of
its own, so it answers even when the process is busy.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector

from bus.errors import SettingError
from bus.runtime.health import OK, is_ready
from bus.runtime.metrics import INFO
from bus.runtime.settings import Environment

logger = logging.getLogger(__name__)

BACKLOG = 64
CLIENT_SECONDS = 5.0
STOP_SECONDS = 0.25

Ready = Callable[[], Mapping[str, str]]
"""Returns, for each thing that the process needs, "ok", "paused", or what is wrong with it. The
call takes a bounded time, however frequent it is (see ``bus.runtime.health``)."""


def start_ops(environment: Environment, *, ready: Ready) -> OpsServer:
    """Listens on OPS_HOST:OPS_PORT and answers. Raises SettingError when it cannot listen.

    The process is ready only when every check of ``ready`` is well.
    """
    server = OpsServer(listen(environment), ready)
    server.start()
    return server


def listen(environment: Environment) -> socket.socket:
    """The listening socket, which forks may share. Raises SettingError."""
    host = environment.text("OPS_HOST", "127.0.0.1")
    port = environment.integer("OPS_PORT", 0, minimum=0, maximum=65_535)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or error
        raise SettingError("OPS_PORT", f"cannot listen on {host}:{port}: {reason}") from error
    # One connection wakes all processes that wait for it; all but one find nothing.
    listener.setblocking(False)
    logger.info("health and metrics on %s:%d", host, listener.getsockname()[1])
    return listener


class OpsServer:
    """Answers on ``listener`` in a thread, once it is started.

    A check in ``optional`` is only reported: the process can work without it.
    """

    def __init__(
        self, listener: socket.socket, ready: Ready, optional: Collection[str] = ()
    ) -> None:
        self._server = _Server(listener, ready, optional, _registry())
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_SECONDS,), name="ops", daemon=True
        )

    @property
    def port(self) -> int:
        return self._server.server_port

    def start(self) -> None:
        INFO.labels(version("chatbus")).set(1)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _registry() -> CollectorRegistry:
    """The metrics of this process, or of all that share PROMETHEUS_MULTIPROC_DIR."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    ProcessCollector(registry=registry)
    return registry


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self,
        listener: socket.socket,
        ready: Ready,
        optional: Collection[str],
        registry: CollectorRegistry,
    ) -> None:
        address = listener.getsockname()
        super().__init__(address, _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_address = address
        self.server_port = address[1]
        self.ready = ready
        self.optional = optional
        self.registry = registry

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client has gone, or does not speak HTTP."""
        logger.debug("no answer to %s", client_address[0], exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "chatbus"
    sys_version = ""
    timeout = CLIENT_SECONDS

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/health/live":
                self._answer(HTTPStatus.OK, {"status": OK})
            case "/health/ready":
                self._ready()
            case "/metrics":
                self._send(
                    HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self.server.registry)
                )
            case _:
                accepted = "Accepted are /health/live, /health/ready and /metrics."
                self._answer(HTTPStatus.NOT_FOUND, {"error": accepted})

    def _ready(self) -> None:
        checks = self.server.ready()
        if is_ready(checks, self.server.optional):
            self._answer(HTTPStatus.OK, {"status": OK, "checks": dict(checks)})
        else:
            body = {"status": "unavailable", "checks": dict(checks)}
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, body)

    def _answer(self, status: HTTPStatus, body: Mapping[str, object]) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        logger.debug(format, *arguments)
