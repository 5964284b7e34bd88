"""The HTTP server of web and gateway: legal HTTP, and clients that are slow or too many."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest

from bus.http.clients import TrustedProxies
from bus.http.front import Front, Response, content_length
from bus.http.limits import HttpLimits
from bus.http.server import HttpServer, listen
from bus.rpc.messages import HeldRequest
from tests.support.ports import free_port
from tests.support.raw_http import (
    BYSTANDER,
    STRANGER,
    ask,
    connect,
    get,
    is_open,
    many,
    statuses,
)
from tests.support.wait import patience, wait_until

MEBIBYTE = 1024 * 1024
# Deadlines that no test reaches unless it wants to.
PATIENT = HttpLimits(head=600.0, body=600.0, idle=600.0, behind=600.0)
QUICK = replace(PATIENT, head=0.3, body=0.3, idle=0.3, behind=0.3, sweep=0.05)
HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: "
LENGTH = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nabc"
CHUNKED = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
POST = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


class Site:
    """Answers with what it was asked, or with ``answer``; notes each request."""

    def __init__(self, limits: HttpLimits, proxies: tuple[str, ...]) -> None:
        self.port = free_port()
        self.asked: list[HeldRequest] = []
        self.answer: bytes | None = None
        self.released = threading.Event()
        self.released.set()
        self._ready = threading.Event()
        self.server = HttpServer(
            Front(self, limits, ("127.0.0.1",)),
            limits,
            TrustedProxies(proxies),
            grace=patience(10),
            on_ready=self._ready.set,
        )
        self._listener = listen("PORT", "127.0.0.1", self.port)
        self._thread = threading.Thread(target=self.server.run, args=([self._listener],))

    async def respond(self, request: HeldRequest, gone: asyncio.Future[None]) -> Response:
        self.asked.append(request)
        await asyncio.get_running_loop().run_in_executor(None, self.released.wait, patience(20))
        body = request.body if self.answer is None else self.answer
        return Response(200, [content_length(body)], body)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(patience(10))

    def stop(self) -> None:
        self.released.set()
        self.server.stop()
        self._thread.join(patience(20))
        assert not self._thread.is_alive()

    def is_well(self) -> bool:
        """Whether somebody else gets an answer."""
        return statuses(ask(self.port, get("/"))) == [200]


StartSite = Callable[..., Site]


@pytest.fixture
def site() -> Iterator[StartSite]:
    with ExitStack() as stack:

        def start(limits: HttpLimits = PATIENT, proxies: tuple[str, ...] = ()) -> Site:
            site = Site(limits, proxies)
            site.start()
            stack.callback(site.stop)
            return site

        yield start


# Each is read differently by some server or proxy, so two of them in a row may disagree on where
# a request ends (request smuggling).
ILLEGAL = {
    "a bare LF after the request line": b"GET / HTTP/1.1\nHost: 127.0.0.1\r\n\r\n",
    "a bare LF after a field": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\nX-A: 1\r\n\r\n",
    "bare LFs only": b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n",
    "a folded field": HEAD + b"1\r\n 2\r\n\r\n",
    "a bare CR": HEAD + b"1\r2\r\n\r\n",
    "a NUL": HEAD + b"1\x002\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
    "length and coding": LENGTH[:-7] + b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": LENGTH[:-7] + b"\r\nContent-Length: 100\r\n\r\n",
    "a signed length": LENGTH.replace(b"100", b"+100"),
    "two codings": CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a CR in a chunk extension": CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "a LF in a chunk extension": CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "a bare LF after a chunk's size": CHUNKED + b"3\nabc\r\n0\r\n\r\n",
    "a bare LF after a chunk": CHUNKED + b"3\r\nabc\n0\r\n\r\n",
    "a bare LF after the last chunk": CHUNKED + b"3\r\nabc\r\n0\n\n",
    "a bare LF in a trailer": CHUNKED + b"3\r\nabc\r\n0\r\nX-A: 1\n\r\n",
    "a space after a chunk's size": CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n",
    "a chunk size with a prefix": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "an absolute target": b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
}


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    site = Site(PATIENT, ())
    site.start()
    yield site
    site.stop()


@pytest.mark.parametrize("sent", ILLEGAL.values(), ids=ILLEGAL)
def test_ambiguous_requests_are_refused_and_the_connection_ends(running: Site, sent: bytes) -> None:
    running.asked.clear()
    close = b"\r\nConnection: close\r\n"
    answers = statuses(ask(running.port, sent.replace(b"\r\n", close, 1) + get("/second")))
    assert answers == [400]
    assert running.asked == []


def test_an_old_or_new_version_and_another_coding(running: Site) -> None:
    field = b"Host: 127.0.0.1\r\nConnection: close\r\n\r\n"
    assert statuses(ask(running.port, b"GET / HTTP/2.0\r\n" + field)) == [505]
    assert statuses(ask(running.port, b"GET / HTTP/9.9\r\n" + field)) == [505]
    coded = POST.replace(b"chunked", b"identity, chunked")
    assert statuses(ask(running.port, coded + b"0\r\n\r\n")) == [501]


@pytest.mark.parametrize("method", [b"A" * 33, b"FOO", b"get"])
def test_a_method_that_no_application_sees(running: Site, method: bytes) -> None:
    running.asked.clear()
    assert statuses(ask(running.port, method + get("/")[3:])) == [501]
    assert running.asked == []


def test_a_chunked_body_and_repeated_cookies(running: Site) -> None:
    cookies = b"\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n"
    sent = (
        POST.replace(b"\r\n\r\n", cookies) + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nCookie: c=3\r\n\r\n"
    )
    assert ask(running.port, sent).endswith(b"\r\n\r\nabcde")
    found = [value for name, value in running.asked[-1].headers if name == "cookie"]
    assert found == ["a=1", "b=2"], "a trailer is no header"


def test_pipelined_requests_are_answered_in_order(running: Site) -> None:
    posts = [
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\n%d" % number
        for number in range(4)
    ]
    answers = ask(running.port, b"".join(posts) + get("/"))
    assert statuses(answers) == [200] * 5
    assert [part[-1:] for part in answers.split(b"HTTP/1.1 200")[1:5]] == [b"0", b"1", b"2", b"3"]


def test_the_answer_to_a_head_is_its_head(running: Site) -> None:
    head = b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    answers = ask(running.port, head + get("/"))
    assert statuses(answers) == [200, 200]
    early = b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999999\r\n\r\n"
    assert statuses(ask(running.port, early)) == [413]


def test_too_many_pipelined_requests(site: StartSite) -> None:
    served = site(replace(PATIENT, pipelined=2))
    served.released.clear()
    with connect(served.port) as client:
        client.sendall(get("/").replace(b"Connection: close\r\n", b"") * 100)
        wait_until(lambda: served.asked, what="the first request")
        served.released.set()
        answers = b"".join(iter(lambda: client.recv(65_536), b""))
    assert statuses(answers) == [200, 200, 200, 429]
    assert len(served.asked) == 3


def test_an_upgrade_is_answered_as_if_it_were_none(running: Site) -> None:
    fields = ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
    sent = get("/", *fields).replace(b"Connection: close", b"Connection: Upgrade, HTTP2-Settings")
    assert statuses(ask(running.port, sent + b"garbage")) == [200]


def test_a_client_that_is_refused_while_it_sends_reads_why(site: StartSite) -> None:
    served = site(replace(PATIENT, body_bytes=10))
    body = b"x" * 2 * MEBIBYTE
    head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert statuses(ask(served.port, head + body)) == [413]
    chunks = b"".join(b"1\r\nx\r\n" for _ in range(100_000))
    assert statuses(ask(served.port, CHUNKED + chunks)) == [413]
    assert statuses(ask(served.port, HEAD + b"x" * 70_000)) == [431]
    assert served.asked == []


@pytest.mark.parametrize(
    "sent", [b"", HEAD, b"\r\n", get("/")[:-2]], ids=["silent", "head", "line", "last line"]
)
def test_a_head_that_does_not_end_ends_with_its_deadline(site: StartSite, sent: bytes) -> None:
    served = site(QUICK)
    assert ask(served.port, sent) == b""


@pytest.mark.parametrize("sent", [LENGTH, CHUNKED + b"3\r\nabc\r\n"], ids=["length", "chunked"])
def test_a_body_that_does_not_end_is_a_408(site: StartSite, sent: bytes) -> None:
    assert statuses(ask(site(QUICK).port, sent)) == [408]


def trickle(client: socket.socket, data: bytes, ended: threading.Event) -> None:
    """A byte at a time, faster than any deadline for silence."""
    with suppress(OSError):  # its end, which the test waits for
        while not ended.wait(0.05):
            client.sendall(data)


@pytest.mark.parametrize("begin", [HEAD, CHUNKED], ids=["head", "body"])
def test_trickling_does_not_put_a_deadline_off(site: StartSite, begin: bytes) -> None:
    served, ended = site(QUICK), threading.Event()
    with connect(served.port) as client:
        client.sendall(begin)
        piece = b"a" if begin is HEAD else b"1\r\na\r\n"
        thread = threading.Thread(target=trickle, args=(client, piece, ended))
        thread.start()
        try:
            wait_until(lambda: not is_open(client), what="the deadline")
        finally:
            client.close()
            ended.set()
            thread.join()


def test_a_reader_that_does_not_read_is_disconnected(site: StartSite) -> None:
    served = site(QUICK)
    served.answer = b"x" * 20 * MEBIBYTE
    with connect(served.port, unread=True) as client:
        client.sendall(get("/").replace(b"Connection: close\r\n", b""))
        wait_until(lambda: served.asked, what="the request")
        wait_until(lambda: not served.server.server_state.connections, what="it is disconnected")


def test_a_slow_reader_that_reads_gets_all(site: StartSite) -> None:
    """Its small window makes it slow: it needs several times as long as it may be silent."""
    served = site(replace(QUICK, behind=0.1))
    served.answer = b"x" * 5 * MEBIBYTE
    with connect(served.port, unread=True) as client:
        client.sendall(get("/"))
        received = sum(map(len, iter(lambda: client.recv(65_536), b"")))
    assert received > len(served.answer)


def connections(site: Site) -> int:
    return len(site.server.server_state.connections)


@pytest.mark.parametrize(
    "sent", [b"", HEAD, LENGTH, CHUNKED], ids=["silent", "heads", "bodies", "chunks"]
)
def test_who_waits_longest_makes_room_within_an_address(site: StartSite, sent: bytes) -> None:
    served = site(replace(PATIENT, connections_per_address=10))
    with many(served.port, 50, sent) as clients:
        wait_until(lambda: sum(map(is_open, clients)) == 10, what="the share")
        assert connections(served) == 10
        assert served.is_well()
        assert statuses(ask(served.port, get("/"), address=STRANGER)) == [200]


def test_many_addresses_share_what_there_is(site: StartSite) -> None:
    served = site(replace(PATIENT, connections=20, connections_per_address=10))
    with ExitStack() as stack:
        clients = [
            client
            for number in range(1, 6)
            for client in stack.enter_context(
                many(served.port, 10, HEAD, address=f"127.0.1.{number}")
            )
        ]
        wait_until(lambda: sum(map(is_open, clients)) == 20, what="the bound")
        assert served.is_well()


def test_requests_that_run_are_never_cut_off_for_others(site: StartSite) -> None:
    served = site(replace(PATIENT, connections_per_address=3))
    served.released.clear()
    with many(served.port, 3, get("/"), address=STRANGER) as clients:
        wait_until(lambda: len(served.asked) == 3, what="they run")
        answer = ask(served.port, get("/"), address=STRANGER)
        assert statuses(answer) == [503]
        assert b"retry-after: " in answer
        served.released.set()
        assert served.is_well()
        for client in clients:
            assert client.recv(12) == b"HTTP/1.1 200"


def test_unread_answers_of_an_address_have_a_bound(site: StartSite) -> None:
    served = site(replace(PATIENT, buffered_per_address=20 * MEBIBYTE))
    served.answer = b"x" * 8 * MEBIBYTE
    with many(served.port, 12, get("/"), unread=True) as clients:
        wait_until(lambda: len(served.asked) == 12, what="the requests")
        wait_until(lambda: connections(served) <= 3, what="the bound")
        assert served.is_well()
        assert len(clients) == 12


def test_bodies_of_an_address_have_a_bound(site: StartSite) -> None:
    served = site(replace(PATIENT, buffered_per_address=2 * MEBIBYTE))
    begun = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500000\r\n\r\n" + b"x" * 400_000
    with many(served.port, 20, begun) as clients:
        wait_until(lambda: sum(map(is_open, clients)) <= 5, what="the bound")
        assert served.is_well()


def test_only_named_proxies_are_believed(site: StartSite) -> None:
    fields = ("X-Forwarded-For: 6.6.6.6, 10.1.1.1", "X-Forwarded-Proto: https")
    served = site(proxies=(BYSTANDER, "10.0.0.0/8"))
    for address in (BYSTANDER, STRANGER):
        ask(served.port, get("/", *fields), address=address)
    named, other = served.asked
    assert (named.client, named.scheme) == ("6.6.6.6", "https")
    assert (other.client, other.scheme) == (STRANGER, "http")
    assert dict(other.headers)["x-forwarded-for"] == STRANGER


def test_behind_a_proxy_each_client_has_its_share(site: StartSite) -> None:
    served = site(replace(PATIENT, connections_per_address=2), proxies=(BYSTANDER,))
    served.released.clear()
    sent = get("/", "X-Forwarded-For: 6.6.6.6")
    with many(served.port, 2, sent, address=BYSTANDER):
        wait_until(lambda: len(served.asked) == 2, what="they run")
        assert statuses(ask(served.port, sent)) == [429]
        with connect(served.port) as client:
            client.sendall(get("/", "X-Forwarded-For: 7.7.7.7"))
            wait_until(lambda: len(served.asked) == 3, what="another client's request runs")
            served.released.set()
            assert client.recv(12) == b"HTTP/1.1 200"


def test_slow_clients_do_not_hold_up_the_end(site: StartSite) -> None:
    served = site(replace(PATIENT, behind=0.3, sweep=0.05))
    served.answer = b"x" * 20 * MEBIBYTE
    with ExitStack() as stack:
        for sent in (b"", HEAD):
            stack.enter_context(many(served.port, 5, sent))
        stack.enter_context(many(served.port, 2, get("/"), unread=True))
        wait_until(lambda: len(served.asked) == 2, what="the requests")
        served.stop()


def test_a_request_that_runs_is_answered_before_the_end(site: StartSite) -> None:
    served = site()
    served.released.clear()
    with connect(served.port) as client:
        client.sendall(get("/"))
        wait_until(lambda: served.asked, what="it runs")
        served.server.stop()
        served.released.set()
        assert client.recv(12) == b"HTTP/1.1 200"


def test_a_small_answer_is_one_write(running: Site) -> None:
    """Two would wait for each other, where the kernel holds the second one back."""
    with connect(running.port) as client:
        for number in range(3):
            body = b"%d" % number
            client.sendall(
                b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\n" + body
            )
            assert client.recv(65_536).endswith(b"\r\n\r\n" + body)
