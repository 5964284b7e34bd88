"""The process ``web``: gunicorn with workers of our own, the application loaded before the fork."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from bus.errors import SettingError
from bus.http.clients import TrustedProxies
from bus.http.limits import HttpLimits
from bus.rpc.wsgi import Application
from bus.runtime.settings import Environment
from webapp.project.own_folder import own_folder

GRACEFUL_SECONDS = 20


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where to listen, how many requests at a time (``workers`` times ``threads``), and what a
    client may cost each worker."""

    host: str
    port: int
    workers: int
    threads: int
    allowed_hosts: tuple[str, ...]
    proxies: TrustedProxies
    limits: HttpLimits

    @classmethod
    def from_environment(cls, environment: Environment) -> ServerSettings:
        proxies = environment.proxies("WEB_TRUSTED_PROXIES", networks=True)
        if environment.flag("HTTPS", False) and not proxies:
            problem = "names no proxy, and HTTPS is on: each page would be redirected to itself"
            raise SettingError("WEB_TRUSTED_PROXIES", problem)
        return cls(
            host=environment.text("WEB_HOST", "127.0.0.1"),
            port=environment.integer("WEB_PORT", 8000, minimum=1, maximum=65_535),
            workers=environment.integer("WEB_WORKERS", 1, minimum=1, maximum=64),
            threads=environment.integer("WEB_THREADS", 8, minimum=1, maximum=256),
            allowed_hosts=environment.allowed_hosts(),
            proxies=TrustedProxies(proxies),
            limits=HttpLimits.from_environment(environment, "WEB"),
        )

    def for_gunicorn(self) -> dict[str, Any]:
        # Imported late: it has metrics, which look for their folder when they are imported.
        from webapp.project.worker import HttpWorker

        host = f"[{self.host}]" if ":" in self.host else self.host
        return {
            "bind": f"{host}:{self.port}",
            "workers": self.workers,
            "worker_class": HttpWorker,
            # The application loads before the fork and before READY, so a bad setting ends the
            # process instead of one worker after another.
            "preload_app": True,
            "graceful_timeout": GRACEFUL_SECONDS,
            "logger_class": RootLogger,
            "control_socket_disable": True,
            "proc_name": "chatbus-web",
        }


class RootLogger(Logger):
    """Sends gunicorn's log records to the root logger, like all others of the process."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class Server(BaseApplication):
    """Gunicorn without a command line, serving one application.

    ``hooks`` are gunicorn's server hooks.
    """

    def __init__(
        self, application: Application, settings: ServerSettings, hooks: dict[str, Any]
    ) -> None:
        self.settings = settings
        self._application = application
        self._options = settings.for_gunicorn() | hooks
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Application:
        return self._application


def main(environment: Environment) -> None:
    """Serves until SIGTERM. Gunicorn sends READY to NOTIFY_SOCKET once it listens."""
    settings = ServerSettings.from_environment(environment)
    # The workers share their metrics in it; modules with metrics look for it when they are imported
    # (https://prometheus.github.io/client_python/multiprocess/).
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = own_folder("chatbus-metrics-")
    from bus.runtime import ops_server

    # Imported late: it reads the settings and may raise SettingError.
    from webapp.project.wsgi import application

    hooks = _ops_hooks(ops_server.listen(environment))
    Server(application, settings, hooks).run()


def _ops_hooks(listener: socket.socket) -> dict[str, Callable[..., None]]:
    """Gunicorn hooks: each worker answers on ``listener``, in a thread started after the fork."""
    from prometheus_client.multiprocess import mark_process_dead

    from bus.runtime.ops_server import OpsServer
    from webapp.clock.shared import shared_clock
    from webapp.project import health

    def post_worker_init(worker: Any) -> None:
        shared_clock.start()
        OpsServer(listener, health.checks, health.OPTIONAL).start()

    def child_exit(server: Any, worker: Any) -> None:
        mark_process_dead(worker.pid)

    return {"post_worker_init": post_worker_init, "child_exit": child_exit}
