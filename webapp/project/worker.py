"""One worker of the process ``web``: the HTTP front of ``bus.http`` before a pool of threads.

Gunicorn starts, watches and stops the workers. Its own workers give a thread, or all they have, to
a client that sends or reads slowly (docs/performance.md). This one gives a thread to a request only
when it is complete, and takes it back as soon as the application has answered.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from tempfile import SpooledTemporaryFile
from types import FrameType

from gunicorn.workers.base import Worker

from bus.http import rules
from bus.http.front import BrowserGone, Front, Response
from bus.http.server import HttpServer
from bus.rpc.messages import HeldRequest
from bus.rpc.wsgi import Application, run_application
from webapp.project.shutdown import stopping

# Of an answer; what is more lies in a file until the browser has read it.
MEMORY_BYTES = 1024 * 1024
# Gunicorn kills a worker that still runs at the end of its graceful_timeout.
BEFORE_KILL_SECONDS = 2.0


class WsgiThreads:
    """Runs a WSGI application in ``threads`` threads."""

    def __init__(self, application: Application, threads: int) -> None:
        self._application = application
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="request")

    async def respond(self, request: HeldRequest, gone: asyncio.Future[None]) -> Response:
        """A request whose browser leaves before a thread was free is not run."""
        answer = asyncio.wrap_future(self._pool.submit(self._run, request))

        def cancel(gone: asyncio.Future[None]) -> None:
            answer.cancel()

        gone.add_done_callback(cancel)
        try:
            return await answer
        except asyncio.CancelledError:
            if not gone.done():
                raise
            raise BrowserGone from None
        finally:
            gone.remove_done_callback(cancel)

    def _run(self, request: HeldRequest) -> Response:
        body = SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115
        status, fields = run_application(self._application, request, body)
        length = body.tell()
        headers = rules.reply_headers(request.method, status, fields, length)
        if request.method == "HEAD" or status in rules.BODILESS:
            return Response(status, headers, b"")
        body.seek(0)
        return Response(status, headers, body)


class HttpWorker(Worker):
    """Gunicorn's worker; its application says how to serve (``webapp.project.server.Server``)."""

    def run(self) -> None:
        settings = self.app.settings
        threads = WsgiThreads(self.wsgi, settings.threads)
        self._server = HttpServer(
            Front(threads, settings.limits, settings.allowed_hosts),
            settings.limits,
            settings.proxies,
            grace=self.cfg.graceful_timeout - BEFORE_KILL_SECONDS,
            on_alive=self._live,
        )
        if self.alive:
            self._server.run(self.sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        stopping.set()
        if server := getattr(self, "_server", None):
            server.stop()

    def _live(self) -> None:
        """Gunicorn's own check of its workers, and theirs of it."""
        self.notify()
        if os.getppid() != self.ppid:
            self._server.stop()
