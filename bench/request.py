"""What one confirmed publish adds to an HTTP request: one that publishes beside an empty one."""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context

from bus.message import Message
from bus.publishing import Publisher
from bus.topology import Queue

WARM_UP = 50
REQUESTS = 500


def run(url: str, queues: Sequence[Queue], message: Message) -> None:
    with closing(Publisher(url, queues)) as publisher:
        actions = {"/empty": lambda: None, "/publish": lambda: publisher.publish(message)}
        # Its own process: as a thread it would compete with the server for the interpreter.
        with _server(actions) as port, ProcessPoolExecutor(1, get_context("spawn")) as browser:
            times = browser.submit(_times, port, list(actions)).result()
    empty, publish = (statistics.median(times[path]) for path in actions)
    print(f"a request, median of {REQUESTS}: empty {empty:.2f} ms, with one confirmed publish")
    print(f"{publish:.2f} ms: {publish - empty:.2f} ms more")


@contextmanager
def _server(actions: dict[str, Callable[[], None]]) -> Iterator[int]:
    """Does on each path what ``actions`` say, and answers with nothing."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            actions[self.path]()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Nothing: the log would be measured, too."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def _times(port: int, paths: Sequence[str]) -> dict[str, list[float]]:
    """Milliseconds of each request, on one connection, the paths in turn."""
    times: dict[str, list[float]] = {path: [] for path in paths}
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        for _ in range(WARM_UP + REQUESTS):
            for path in paths:
                started = time.perf_counter()
                connection.request("POST", path)
                connection.getresponse().read()
                times[path].append((time.perf_counter() - started) * 1000)
    return {path: measured[WARM_UP:] for path, measured in times.items()}
