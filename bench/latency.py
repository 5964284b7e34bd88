"""From one browser's POST to the other browser's socket, on an otherwise idle system.

Beside it, in the same run, what lies below: a request that only reads one row, and a message
through Redis' pub/sub alone.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from bench.stacks import real_stack
from tests.support.person import Person

WARM_UP = 30
MESSAGES = 300


def run(arguments: argparse.Namespace) -> None:
    with real_stack() as real:
        site = real.stack.base_url
        alice, bob = (Person.registered(site, name) for name in ("alice", "bob"))
        room = alice.make_room("bench")
        alice.invite(room, bob)
        call = _caller(alice, f"/api/rooms/{room}")
        with bob.open_socket() as socket:
            socket.subscribe(room)

            def post() -> None:
                call("POST", "/messages", b'{"body":"hi"}')

            def chat() -> None:
                post()
                socket.next("event")

            print(f"{'milliseconds, of ' + str(MESSAGES):<44}{'median':>8}{'p95':>8}{'p99':>8}")
            _report("POST to the other browser's socket", chat)
            _report("POST to its answer 202", post)
        call = _caller(alice, f"/api/rooms/{room}")  # the first one was idle for too long
        _report("GET of one room, for comparison", lambda: call("GET", ""))
        with _ping_pong(real.redis.url) as ping:
            _report("Redis pub/sub alone, for comparison", ping)


def _caller(person: Person, base: str) -> Callable[..., None]:
    """Requests of ``person`` on one connection: lean, for the client is measured too."""
    connection = http.client.HTTPConnection(person.site.removeprefix("http://"))
    cookies = person.session.cookies
    headers = {
        "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
        "X-CSRFToken": cookies["csrftoken"],
        "Content-Type": "application/json",
    }

    def call(method: str, path: str, body: bytes | None = None) -> None:
        connection.request(method, base + path, body, headers)
        answer = connection.getresponse()
        assert answer.status < 300, answer.read()
        answer.read()

    return call


def _report(name: str, action: Callable[[], object]) -> None:
    for _ in range(WARM_UP):
        action()
    times = [_timed(action) for _ in range(MESSAGES)]
    percentiles = statistics.quantiles(times, n=100)
    print(f"{name:<44}{percentiles[49]:>8.1f}{percentiles[94]:>8.1f}{percentiles[98]:>8.1f}")


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000


@contextmanager
def _ping_pong(url: str) -> Iterator[Callable[[], None]]:
    client = redis.Redis.from_url(url)
    subscription = client.pubsub(ignore_subscribe_messages=True)
    subscription.subscribe("bench")

    def ping() -> None:
        client.publish("bench", "hi")
        while not subscription.get_message(timeout=1.0):
            pass

    yield ping
    subscription.close()
    client.close()
