"""The web tier's threads before slow readers, and answers larger than memory should hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bus.http.clients import TrustedProxies
from bus.http.front import Front
from bus.http.limits import HttpLimits
from bus.http.server import HttpServer, listen
from tests.support.ports import free_port
from tests.support.raw_http import ask, get, many, statuses
from tests.support.wait import patience, wait_until
from webapp.project.worker import WsgiThreads

MEBIBYTE = 1024 * 1024
THREADS = 2


class Application:
    """Answers with as many mebibytes as the path says."""

    def __init__(self) -> None:
        self.finished = 0

    def __call__(self, environ, start_response):
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        yield from [b"x" * MEBIBYTE] * int(environ["PATH_INFO"][1:])
        self.finished += 1


@pytest.fixture
def served() -> Iterator[tuple[Application, HttpServer, int]]:
    application, port, ready = Application(), free_port(), threading.Event()
    limits = replace(HttpLimits(), behind=600.0, idle=600.0)
    server = HttpServer(
        Front(WsgiThreads(application, THREADS), limits, ("127.0.0.1",)),
        limits,
        TrustedProxies(),
        grace=0,
        on_ready=ready.set,
    )
    thread = threading.Thread(target=server.run, args=([listen("WEB_PORT", "127.0.0.1", port)],))
    thread.start()
    assert ready.wait(patience(10))
    yield application, server, port
    server.stop()
    thread.join(patience(20))


def test_readers_that_do_not_read_hold_neither_threads_nor_memory(served) -> None:
    application, server, port = served
    with many(port, 5 * THREADS, get("/20"), unread=True) as clients:
        wait_until(lambda: application.finished == len(clients), what="the application has ended")
        assert statuses(ask(port, get("/0"))) == [200]
        held = sum(each.buffered for each in server.server_state.connections)
        assert held < len(clients) * MEBIBYTE


def test_a_large_answer_arrives_whole(served) -> None:
    _, _, port = served
    head, _, body = ask(port, get("/20")).partition(b"\r\n\r\n")
    assert b"content-length: %d" % (20 * MEBIBYTE) in head
    assert body == b"x" * 20 * MEBIBYTE
