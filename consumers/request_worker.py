"""Queue ``web.requests`` → the WSGI application → the reply queue of the gateway that asked.

Each thread takes one request at a time. WSGI_APPLICATION names the application, so this module
imports nothing of it.
"""

from __future__ import annotations

import io
import logging
import pkgutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from bus.errors import SettingError
from bus.publishing import Publisher
from bus.rpc.messages import MAX_REPLY_BYTES, HeldRequest, Reply
from bus.rpc.server import RpcServer
from bus.rpc.wsgi import Application, run_application
from bus.runtime import trace
from bus.runtime.health import OK, Check, Probes
from bus.runtime.metrics import WORKER_REQUESTS, WORKER_SECONDS
from bus.runtime.ops_server import start_ops
from bus.runtime.process import notify_ready, stop_event
from bus.runtime.settings import Environment
from bus.transport.broker_probe import BrokerProbe

logger = logging.getLogger(__name__)

APPLICATION = "webapp.project.wsgi:application"
CHECK = "webapp.project.health:problem"


@dataclass(frozen=True, slots=True)
class Settings:
    """``grace`` is how many seconds running requests get to finish after SIGTERM.

    ``check`` names a function, or is empty. The function returns what the application lacks for
    its work, or nothing.
    """

    broker_url: str
    application: str
    check: str
    threads: int
    instance: str
    grace: float

    @classmethod
    def from_environment(cls, environment: Environment) -> Settings:
        application = environment.text("WSGI_APPLICATION", APPLICATION)
        return cls(
            broker_url=environment.broker_url(),
            application=application,
            check=environment.text("WSGI_CHECK", CHECK if application == APPLICATION else ""),
            threads=environment.integer("WORKER_THREADS", 4, minimum=1, maximum=64),
            instance=environment.text("CONSUMER_INSTANCE", "1"),
            grace=environment.seconds("WORKER_GRACE", 30, minimum=0, maximum=600),
        )


def load_application(name: str) -> Application:
    """The WSGI application ``module:attribute``. Raises SettingError."""
    application: Application = _load("WSGI_APPLICATION", name, "a WSGI application")
    return application


def _load(setting: str, name: str, what: str) -> Any:
    accepted = f"accepted is module:attribute of {what}"
    try:
        loaded = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError(setting, f"{name!r}: {error}; {accepted}") from error
    if not callable(loaded):
        raise SettingError(setting, f"{name!r} cannot be called; {accepted}")
    return loaded


def run(application: Application, request: HeldRequest) -> Reply:
    """Runs ``application`` for ``request``.

    Raises ReplyTooLarge, and whatever the application raises.
    """
    body = io.BytesIO()
    status, headers = run_application(application, request, body, MAX_REPLY_BYTES)
    return Reply(status=status, headers=headers, body=body.getvalue())


def _run_watched(application: Application, request: HeldRequest) -> Reply:
    """Like ``run``, with metrics, and within the trace that the request belongs to."""
    header = next((value for name, value in request.headers if name == trace.HEADER), None)
    status = "failed"
    with trace.continued(header), WORKER_SECONDS.time():
        try:
            reply = run(application, request)
            status = f"{reply.status // 100}xx"
            return reply
        finally:
            WORKER_REQUESTS.labels(status).inc()


class WorkerThreads:
    """One thread for each of ``serve``, the ``run`` of an RpcServer, until ``stop`` is set.

    When one of them ends before that, all end: that a single thread is missing would go unnoticed.
    ``grace`` is how many seconds running requests get to finish.
    """

    def __init__(
        self, serve: Sequence[Callable[[], object]], stop: threading.Event, grace: float
    ) -> None:
        self._stop = stop
        self._grace = grace
        self._has_crashed = False
        self._threads = [
            threading.Thread(target=self._run, args=(run,), name=f"worker-{number}", daemon=True)
            for number, run in enumerate(serve, start=1)
        ]

    def run(self) -> bool:
        """Returns after ``stop`` is set; False if a thread ended by itself."""
        for thread in self._threads:
            thread.start()
        self._stop.wait()
        logger.info("stopping: running requests get %g s to finish", self._grace)
        self._join()
        return not self._has_crashed

    def _run(self, run: Callable[[], object]) -> None:
        try:
            run()
        finally:
            self._has_crashed |= not self._stop.is_set()
            self._stop.set()

    def _join(self) -> None:
        deadline = time.monotonic() + self._grace
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if running := sum(thread.is_alive() for thread in self._threads):
            logger.warning("%d requests did not finish within %g s", running, self._grace)


def main(environment: Environment) -> None:
    """Serves until SIGTERM or SIGINT, then lets running requests finish within the grace.

    What does not finish is left unacknowledged, so the broker gives it to another worker. Raises
    SystemExit when a thread ended by itself: the process's supervisor starts it again.
    """
    settings = Settings.from_environment(environment)
    application = load_application(settings.application)
    stop = stop_event()
    with closing(Publisher(settings.broker_url)) as publisher:
        servers = _servers(settings, application, publisher, stop)
        with closing(start_ops(environment, ready=Probes(_checks(settings, servers)))):
            serve = [server.run for server in servers]
            is_well = WorkerThreads(serve, stop, settings.grace).run()
    if not is_well:
        sys.exit(1)


def _servers(
    settings: Settings, application: Application, publisher: Publisher, stop: threading.Event
) -> list[RpcServer]:
    return [
        RpcServer(
            url=settings.broker_url,
            handler=partial(_run_watched, application),
            publisher=publisher,
            stop=stop,
            instance=f"{settings.instance}.{number}",
            on_connected=notify_ready,
        )
        for number in range(1, settings.threads + 1)
    ]


def _checks(settings: Settings, servers: list[RpcServer]) -> dict[str, Check]:
    def queue() -> str:
        """The status of the first thread that is not well, else “ok”."""
        return next((status for s in servers if (status := s.status()) != OK), OK)

    checks: dict[str, Check] = {"broker": BrokerProbe(settings.broker_url), "queue": queue}
    if settings.check:
        checks["application"] = _load("WSGI_CHECK", settings.check, "a function")
    return checks
