"""What a stranger may cost: connections, handshakes, tickets; each bound says what it is."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import pytest
import redis
from prometheus_client import REGISTRY
from websockets.exceptions import InvalidStatus

from bridge.hub.registry import ConnectionRegistry
from bridge.limits import Allowance, Limits
from bridge.protocol import SocketRefused
from bus.rooms.log_writer import RoomLogWriter
from bus.ticket import KeySet
from tests.contract import chat
from tests.contract.chat import KEYS, ORIGIN, Bridge, Browser
from tests.support.ports import HOST, is_open
from tests.support.raw_socket import KEY, RawSocket
from tests.support.wait import wait_until

ALICE, BOB = 1, 2


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def refused(bridge: Bridge) -> tuple[int, str]:
    """The status of a handshake that is not accepted, and its Retry-After."""
    with pytest.raises(InvalidStatus) as answer:
        Browser(bridge.url)
    response = answer.value.response
    return response.status_code, response.headers["Retry-After"]


def test_sockets_in_all(redis_url: str, cleanup: ExitStack) -> None:
    with Bridge(chat.settings(redis_url, limits=Limits(sockets=3))) as bridge:
        browsers = [cleanup.enter_context(Browser(bridge.url)) for _ in range(3)]
        assert refused(bridge) == (503, "5")
        browsers[0].socket.close()
        wait_until(lambda: bridge.health() == (200, "ready\n"))
        with Browser(bridge.url) as late:
            late.authenticate(ALICE)


def test_sockets_from_one_address(redis_url: str, cleanup: ExitStack) -> None:
    limits = Limits(sockets_per_address=2)
    with Bridge(chat.settings(redis_url, limits=limits)) as bridge:
        for _ in range(2):
            cleanup.enter_context(Browser(bridge.url))
        assert refused(bridge) == (429, "5")


def test_a_proxys_word_counts_for_the_address(redis_url: str, cleanup: ExitStack) -> None:
    limits = Limits(sockets_per_address=1, close=0.2)
    with (
        Bridge(chat.settings(redis_url, limits=limits, proxies=(HOST,))) as trusting,
        Bridge(chat.settings(redis_url, limits=limits)) as other,
    ):
        told = ("192.0.2.1", "192.0.2.2", f"192.0.2.9, 192.0.2.3, {HOST}")
        heads = [_handshake(cleanup, trusting, address) for address in told]
        assert [head.split()[1] for head in heads] == [b"101"] * 3
        assert _handshake(cleanup, trusting, "192.0.2.9, 192.0.2.3").split()[1] == b"429"
        heads = [_handshake(cleanup, other, address) for address in told]
        assert [head.split()[1] for head in heads] == [b"101", b"429", b"429"]


def _handshake(cleanup: ExitStack, bridge: Bridge, address: str) -> bytes:
    raw = cleanup.enter_context(RawSocket(bridge.port))
    return raw.request(*_handshake_fields(), f"X-Forwarded-For: {address}")


def _handshake_fields() -> tuple[str, ...]:
    return (
        f"Host: {HOST}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
        f"Origin: {ORIGIN}",
    )


def test_sockets_of_one_user(redis_url: str, cleanup: ExitStack) -> None:
    with Bridge(chat.settings(redis_url, limits=Limits(sockets_per_user=2))) as bridge:
        browsers = [cleanup.enter_context(Browser(bridge.url)) for _ in range(3)]
        for browser in browsers[:2]:
            browser.authenticate(ALICE)
        browsers[2].send({"type": "authenticate", "ticket": chat.ticket(ALICE, [])})
        assert browsers[2].close_code() == (4429, "2 sockets of this user are open")
        with Browser(bridge.url) as bob:
            bob.authenticate(BOB)
        browsers[0].authenticate(ALICE)  # a fresh ticket is no further socket
        browsers[0].socket.close()
        with Browser(bridge.url) as again:
            again.authenticate(ALICE)


def test_a_handshake_that_does_not_end_is_cut_off(redis_url: str) -> None:
    with (
        Bridge(chat.settings(redis_url, limits=Limits(handshake=0.3))) as bridge,
        RawSocket(bridge.port) as silent,
        RawSocket(bridge.port) as slow,
        Browser(bridge.url) as browser,
    ):
        slow.send(b"GET / HTTP/1.1\r\nHost: ")
        assert silent.read_to_the_end() == b""
        assert slow.read_to_the_end() == b""
        browser.authenticate(ALICE)


def test_a_ticket_is_good_at_one_of_several_bridges(redis_url: str) -> None:
    settings = chat.settings(redis_url)
    frame = {"type": "authenticate", "ticket": chat.ticket(ALICE, [])}
    with (
        Bridge(settings) as first,
        Bridge(chat.settings(redis_url)) as second,
        Browser(first.url) as alice,
        Browser(second.url) as thief,
    ):
        alice.send(frame)
        alice.expect("ready")
        thief.send(frame)
        code, reason = thief.close_code()
        assert (code, "used before" in reason) == (4401, True)


def test_keys_are_rotated_without_refusing_anybody(redis_url: str) -> None:
    old = KEYS.keys[0]
    new = ("new", "another-secret-of-32-characters-or-more")
    for known, signing, is_good in (
        ((new, old), (old,), True),
        ((new, old), (new, old), True),
        ((new,), (old,), False),
    ):
        settings = replace(chat.settings(redis_url), keys=KeySet(known))
        with Bridge(settings) as bridge, Browser(bridge.url) as alice:
            ticket = chat.ticket(ALICE, [], KeySet(signing))
            alice.send({"type": "authenticate", "ticket": ticket})
            if is_good:
                alice.expect("ready")
            else:
                assert alice.close_code()[0] == 4401


def test_an_older_ticket_takes_nothing_back(
    redis_url: str, room_id: uuid.UUID, cleanup: ExitStack
) -> None:
    """A page may fetch two at the same time; the answers come in any order."""
    writer = cleanup.enter_context(closing(RoomLogWriter.connect(redis_url)))
    with Bridge(chat.settings(redis_url)) as bridge, Browser(bridge.url) as alice:
        older = chat.ticket(ALICE, [])
        alice.authenticate(ALICE, room_id)
        alice.subscribe(room_id)
        alice.send({"type": "authenticate", "ticket": older})
        alice.expect("ready")
        writer.append([chat.posted(room_id, "still in")])
        assert alice.bodies(1) == ["still in"]
        alice.send({"type": "authenticate", "ticket": chat.ticket(ALICE, [])})
        alice.expect("unsubscribed", reason="removed")
        alice.expect("ready")


def test_a_ticket_that_came_in_time_is_not_late_because_redis_is(
    redis_url: str, cleanup: ExitStack
) -> None:
    client = cleanup.enter_context(redis.Redis.from_url(redis_url))
    with (
        Bridge(chat.settings(redis_url, limits=Limits(authenticate=2.0))) as bridge,
        Browser(bridge.url) as alice,
    ):
        started = time.monotonic()
        client.client_pause(3_000, all=True)
        alice.authenticate(ALICE)
        assert time.monotonic() - started > 2.0


def test_who_comes_in_during_the_drain_is_sent_elsewhere(redis_url: str) -> None:
    with Bridge(chat.settings(redis_url, drain=5.0)) as bridge, RawSocket(bridge.port) as raw:
        wait_until(lambda: _number("chatbus_bridge_connections") == 1)
        bridge.stop()
        wait_until(lambda: not is_open(bridge.port))
        head = raw.request(*_handshake_fields())
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 5" in head


def test_a_code_that_the_browser_made_up_counts_as_the_browsers(redis_url: str) -> None:
    with Bridge(chat.settings(redis_url)) as bridge:
        before = _number("chatbus_bridge_closings_total", code="browser")
        too_slow = _number("chatbus_bridge_closings_total", code="4508")
        with Browser(bridge.url) as alice:
            alice.socket.close(4508)
        wait_until(lambda: _number("chatbus_bridge_closings_total", code="browser") == before + 1)
        assert _number("chatbus_bridge_closings_total", code="4508") == too_slow


def _number(sample: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(sample, labels) or 0.0


@dataclass(eq=False)
class Connection:
    address: str

    def close(self, refused: SocketRefused) -> None: ...

    def abort(self) -> None: ...


def test_addresses_of_one_network() -> None:
    registry = ConnectionRegistry()
    for address in ("192.0.2.1", "2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1", "unknown"):
        connection = Connection(address)
        registry.add(connection)
    assert registry.at("192.0.2.1") == 2
    assert registry.at("192.0.2.2") == 0
    assert registry.at("2001:db8::3") == 2
    assert registry.at("2001:db8:0:1::1") == 0
    assert registry.at("unknown") == 1
    registry.move(connection, "2001:db8::9")
    assert (registry.at("unknown"), registry.at("2001:db8::1")) == (0, 3)
    for each in registry.connections:
        registry.remove(each)
    assert registry.at("2001:db8::1") == registry.at("192.0.2.1") == 0


def test_an_allowance() -> None:
    now = time.monotonic()
    allowance = Allowance(3, now)
    taken = [allowance.take(now, 3, 2.0) for _ in range(4)]
    assert taken == [True, True, True, False]
    assert not allowance.take(now + 0.4, 3, 2.0)
    assert allowance.take(now + 0.6, 3, 2.0)
    assert [allowance.take(now + 100, 3, 2.0) for _ in range(4)] == [True, True, True, False]
