"""Held requests from the browser's socket to the application and back, on both brokers."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from bus.message import Message
from bus.publishing import Publisher
from bus.topology import WEB_REQUESTS
from tests.contract.rpc_fixtures import (
    Gateway,
    Hold,
    Site,
    broker,
    hold,
    pool,
    site,
    site_of_module,
)
from tests.support.rabbitmq import RabbitMQ
from tests.support.raw_http import get, many
from tests.support.servers import Redis
from tests.support.wait import wait_until

__all__ = ["broker", "hold", "pool", "site", "site_of_module"]
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module", params=["redis_server", "rabbitmq"], ids=["redis", "amqp"])
def server(request: pytest.FixtureRequest) -> Redis | RabbitMQ:
    """A server that no test here stops."""
    found: Redis | RabbitMQ = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def gateway(site: Site) -> Gateway:
    """With a worker that takes one request at a time."""
    site.lasting_worker()
    return site.lasting_gateway(GATEWAY_PRIORITIES="/slow/=0")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
def test_every_method_arrives_with_all_its_parts(site: Site, gateway: Gateway, method: str) -> None:
    answer = gateway.request(
        method,
        "/a%20b/%C3%BC?x=%20y&x=2",
        data=b"\x00\xff body",
        headers={"X-Any": "caf\xe9", "Content-Type": "text/x-test", "Cookie": "a=1; b=2"},
    )
    assert answer.status_code == 200
    seen = answer.json()
    assert seen["REQUEST_METHOD"] == method
    assert seen["PATH_INFO"].encode("latin-1").decode() == "/a b/ü"
    assert seen["QUERY_STRING"] == "x=%20y&x=2"
    assert seen["body"].encode("latin-1") == b"\x00\xff body"
    assert seen["HTTP_X_ANY"] == "caf\xe9"
    assert seen["CONTENT_TYPE"] == "text/x-test"
    assert seen["HTTP_COOKIE"] == "a=1; b=2"
    assert seen["HTTP_HOST"] == f"127.0.0.1:{gateway.port}"
    assert seen["REMOTE_ADDR"] == "127.0.0.1"


def test_a_binary_mebibyte_makes_the_round_trip(site: Site, gateway: Gateway) -> None:
    body = os.urandom(MEBIBYTE)
    assert gateway.request("POST", "/body", data=body).content == body
    blocks = (body[start : start + 10_000] for start in range(0, MEBIBYTE, 10_000))
    assert gateway.request("POST", "/body", data=blocks).content == body


def test_a_larger_body_is_refused(site: Site, gateway: Gateway) -> None:
    body = b"x" * (MEBIBYTE + 1)
    assert gateway.request("POST", "/api/body", data=body).json() == {
        "error": {"code": "body_too_large", "message": "A body may have 1048576 bytes."}
    }
    assert gateway.request("POST", "/body", data=iter([body])).status_code == 413
    assert site.runs() == []


def test_repeated_cookies_keep_their_order_and_hop_by_hop_fields_go(
    site: Site, gateway: Gateway
) -> None:
    answer = gateway.get("/cookies")
    cookies = [value for name, value in answer.raw.headers.items() if name == "set-cookie"]
    assert cookies == ["c0=0; Path=/", "c1=1; Path=/", "c2=2; Path=/"]
    assert "X-Hop" not in answer.headers


@pytest.mark.parametrize("status", [200, 201, 202, 301, 302, 400, 404, 418, 500, 503])
def test_the_status_is_the_applications(site: Site, gateway: Gateway, status: int) -> None:
    answer = gateway.get(f"/status?code={status}")
    assert (answer.status_code, answer.content) == (status, b"body")
    assert answer.headers["Location"] == "/elsewhere"


@pytest.mark.parametrize(
    ("method", "path"),
    [("HEAD", "/body"), ("GET", "/status?code=204&empty"), ("GET", "/status?code=304")],
)
def test_answers_without_a_body(site: Site, gateway: Gateway, method: str, path: str) -> None:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    second = b"GET /status?code=200 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    received = gateway.raw(f"{head}\r\n".encode() + second)
    first, _, rest = received.partition(b"\r\n\r\n")
    assert b"HTTP/1.1" not in first[8:]
    assert rest.startswith(b"HTTP/1.1 200")


def test_a_failing_application_is_a_500_and_the_worker_goes_on(
    site: Site, gateway: Gateway
) -> None:
    assert gateway.get("/fail").status_code == 500
    assert gateway.get("/huge").status_code == 502
    assert gateway.get("/bad-header").status_code == 502
    assert gateway.get("/environ").status_code == 200


def test_a_malformed_request_on_the_queue_is_dropped(site: Site, gateway: Gateway) -> None:
    worker = site.lasting_worker()
    publisher = Publisher(site.broker.url, [WEB_REQUESTS])
    for body, reply_to in [(b"\xff\x00", "web.replies.x"), (b"{}", None)]:
        message = Message(
            exchange="",
            routing_key=WEB_REQUESTS.name,
            body=body,
            message_id="1",
            type="request",
            content_type="application/x-msgpack",
            correlation_id="1",
            reply_to=reply_to,
        )
        publisher.publish(message)
    publisher.close()
    assert gateway.get("/environ").status_code == 200
    wait_until(lambda: worker.output.count("dropped from web.requests") == 2, what="the log")


def test_a_request_past_its_deadline_is_a_504_and_never_run(
    site: Site, gateway: Gateway, hold: Hold
) -> None:
    impatient = site.gateway(GATEWAY_TIMEOUT="2")
    first, released = hold(gateway, "GET")
    answer = impatient.request("POST", "/late", headers={"Accept": "application/json"})
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "timeout"
    released.touch()
    assert first.result().status_code == 200
    assert impatient.get("/environ").status_code == 200
    assert site.runs() == ["GET /hold", "GET /environ"]


def test_urgent_routes_are_served_first(
    site: Site, gateway: Gateway, pool: ThreadPoolExecutor, hold: Hold
) -> None:
    _, released = hold(gateway, "GET")
    paths = ["/slow/", "/static/a.css", "/page/", "/api/rooms"]
    answers = []
    for waiting, path in enumerate(paths, 1):
        answers.append(pool.submit(gateway.get, path))
        wait_until(lambda waiting=waiting: site.broker.waiting() == waiting, what="the queue")
    released.touch()
    assert all(answer.result().status_code == 200 for answer in answers)
    assert site.runs() == ["GET /hold", *(f"GET {path}" for path in reversed(paths))]


def test_two_gateways_get_their_own_answers(
    site: Site, gateway: Gateway, pool: ThreadPoolExecutor
) -> None:
    gateways = [gateway, site.gateway()]
    site.worker(WORKER_THREADS="2", CONSUMER_INSTANCE="2")
    bodies = [os.urandom(100) for _ in range(40)]
    answers = [
        pool.submit(gateways[number % 2].request, "POST", "/body", data=body)
        for number, body in enumerate(bodies)
    ]
    assert [answer.result().content for answer in answers] == bodies


def test_too_many_held_requests_are_refused(
    site: Site, gateway: Gateway, pool: ThreadPoolExecutor, hold: Hold
) -> None:
    narrow = site.lasting_gateway(GATEWAY_MAX_HELD="1")
    _, released = hold(gateway, "GET")
    first = pool.submit(narrow.get, "/first")
    wait_until(lambda: site.broker.waiting() == 1, what="the first request")
    second = narrow.get("/second")
    assert (second.status_code, second.headers["Retry-After"]) == (503, "5")
    released.touch()
    assert first.result().status_code == 200


def test_a_browser_that_hung_up_makes_room(site: Site, gateway: Gateway, hold: Hold) -> None:
    narrow = site.lasting_gateway(GATEWAY_MAX_HELD="1")
    _, released = hold(gateway, "GET")
    gone = socket.create_connection(("127.0.0.1", narrow.port))
    gone.sendall(b"GET /gone HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_until(lambda: site.broker.waiting() == 1, what="the request")
    assert narrow.get("/refused").status_code == 503
    gone.close()
    released.touch()
    wait_until(lambda: narrow.get("/environ").status_code == 200, what="room for the next request")


def test_readers_that_do_not_read_keep_no_memory(site: Site, gateway: Gateway) -> None:
    """40 answers of 5.3 MB to one address, which may have 32 MiB unread."""
    assert len(gateway.get("/large").content) == 5_300_000
    before = gateway.memory()
    with many(gateway.port, 40, get("/large"), unread=True):
        wait_until(lambda: site.runs().count("GET /large") == 41, what="all have run")
        assert gateway.get("/environ").ok
        wait_until(lambda: gateway.memory() - before < 64 * MEBIBYTE, what="the memory is free")


HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 505),
        (HEAD + b"X-Bad: a\x01b\r\n\r\n", 400),
        (HEAD + b"X-Many: 1\r\n" * 100 + b"\r\n", 431),
        (HEAD + b"X-Long: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (HEAD + b"X-Endless: " + b"a" * 70_000, 431),
        (b"A" * 33 + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Length: 9999999\r\n\r\n",
            413,
        ),
    ],
)
def test_ambiguous_and_bad_heads_are_refused(
    site: Site, gateway: Gateway, sent: bytes, status: int
) -> None:
    assert gateway.raw(sent).startswith(b"HTTP/1.1 %d " % status)
    assert site.runs() == []


def test_a_head_is_cleaned_before_it_goes_on(site: Site, gateway: Gateway) -> None:
    seen = gateway.get(
        "/environ",
        headers={
            "X-Forwarded-For": "6.6.6.6",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "evil.example",
            "X_Under": "1",
            "Connection": "X-Named, keep-alive",
            "X-Named": "1",
            "Proxy-Authorization": "1",
        },
    ).json()
    assert seen["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    assert seen["HTTP_X_FORWARDED_PROTO"] == "http"
    assert seen["HTTP_X_FORWARDED_HOST"] == f"127.0.0.1:{gateway.port}"
    assert seen["wsgi.url_scheme"] == "http"
    gone = {"HTTP_X_UNDER", "HTTP_X_NAMED", "HTTP_PROXY_AUTHORIZATION", "HTTP_CONNECTION"}
    assert not gone & seen.keys()
