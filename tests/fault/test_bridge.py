"""Whatever happens to Redis, to its link or to a bridge: every list is MongoDB's afterwards."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack

import pytest
import redis

from tests.fault.form import Form
from tests.fault.system import RESTART_SECONDS, System
from tests.support.load import Load
from tests.support.ports import HOST, free_port
from tests.support.proxy import Proxy
from tests.support.raw_socket import RawSocket
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(1_800)


@pytest.fixture
def client(system: System) -> redis.Redis:
    return redis.Redis.from_url(system.stack.settings()["REDIS_URL"], socket_timeout=120)


def test_its_connections_are_killed(
    system: System, load: Load, form: Form, client: redis.Redis
) -> None:
    for _ in range(form.closings):
        assert client.client_kill_filter(_type="pubsub") >= 1
        assert client.client_kill_filter(_type="normal", skipme=True) >= 1
        load.wait_for_accepted(10)
    load.settle(form.shown)


def test_redis_is_paused(system: System, load: Load, form: Form, client: redis.Redis) -> None:
    started = time.monotonic()
    client.client_pause(int(form.stall * 1_000))
    load.wait_for_accepted()
    client.ping()
    assert time.monotonic() - started > form.stall - 0.5, "the pause did not hold"
    load.settle(form.shown)


def test_redis_restarts(system: System, load: Load, form: Form) -> None:
    for _ in range(form.broker_kills):
        system.redis.kill()
        assert not system.redis.answers()
        load.wait_for_accepted(5)
        system.redis.start()
        load.wait_for_accepted(10)
    load.settle(form.shown)


def test_redis_is_emptied(system: System, load: Load, form: Form, client: redis.Redis) -> None:
    for _ in range(form.broker_kills):
        lives = sum(view.resets for view in load.listener.views.values())
        client.flushdb()
        load.wait_for_accepted(10)
        wait_until(
            lambda before=lives: sum(v.resets for v in load.listener.views.values()) > before,
            what="the reader is told that its log is gone",
        )
    load.settle(form.shown)


def test_the_link_to_redis_is_a_black_hole(system: System, form: Form) -> None:
    port = free_port()
    url = system.stack.settings()["REDIS_URL"]
    with (
        Proxy(system.redis.port) as proxy,
        system.bridge(port, REDIS_URL=url.replace(f":{system.redis.port}", f":{proxy.port}")),
        system.load(bridge_url=f"ws://{HOST}:{port}/") as load,
    ):
        load.wait_for_accepted()
        connections = proxy.connections
        proxy.black_hole()
        shown = load.shown()
        load.wait_for_accepted()
        wait_until(lambda: proxy.held, what="something is held back")
        assert load.shown() <= shown + 10
        # Longer than the bridge waits for a sign of life.
        load.run_for(max(form.stall, 16))
        proxy.forward()
        wait_until(lambda: proxy.connections > connections, what="the bridge connects anew")
        load.settle(form.shown)


def test_the_bridge_is_killed(system: System, load: Load, form: Form) -> None:
    for _ in range(form.broker_kills):
        pid = system.stack.kill("bridge")
        wait_until(
            lambda killed=pid: system.stack.processes().get("bridge", killed) != killed,
            RESTART_SECONDS,
            "the bridge runs again",
        )
        wait_until(system.stack.bridge_is_ready, what="the bridge is ready")
        load.wait_for_accepted(10)
    load.settle(form.shown)


def test_bridges_roll_on_one_port(system: System, form: Form) -> None:
    """The new one takes the port before the old one has gone, so nobody is ever refused."""
    port = free_port()
    with ExitStack() as bridges:
        running = [bridges.enter_context(system.bridge(port))]
        with system.load(bridge_url=f"ws://{HOST}:{port}/") as load:
            for _ in range(form.closings):
                load.wait_for_accepted(10)
                running.append(bridges.enter_context(system.bridge(port)))
                old = running.pop(0)
                os.kill(old.pid, signal.SIGTERM)
                wait_until(lambda gone=old: gone.has_exited(), what="the old one has ended")
            load.wait_for_accepted(10)
            load.settle(form.shown)
            losses = load.listener.losses
            assert len(losses) >= form.closings
            assert [loss for loss in losses if "1012" not in loss] == []


def test_handshakes_that_never_end(system: System, load: Load, form: Form) -> None:
    port = system.stack.port + 1
    with ExitStack() as sockets:
        slow = [sockets.enter_context(RawSocket(port)) for _ in range(2 * form.sockets // 5)]
        for each in slow:
            each.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n")
        shown = load.shown()
        load.wait_for_accepted()
        with load.reader.open_socket() as newcomer:
            newcomer.subscribe(load.rooms[0])
        wait_until(lambda: load.shown() > shown, what="the reader sees what comes")
        for each in slow:
            assert each.read_to_the_end() == b""
    load.settle(form.shown)
