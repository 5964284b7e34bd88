"""The bridge as a process, and among readers that do not read."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from bridge.limits import Limits
from bus.rooms.log_writer import RoomLogWriter
from tests.contract import chat
from tests.contract.chat import (
    KEYS,
    ORIGIN,
    Bridge,
    Browser,
    posted,
    ticket,
)
from tests.support.command import COMMAND
from tests.support.ports import HOST, free_port, free_ports, is_open
from tests.support.wait import PATIENCE, wait_until

ALICE, BOB = 1, 2
# Whole processes start and end: three of them where two bridges share a port.
PROCESS_SECONDS = 20 * PATIENCE


@pytest.fixture(scope="module")
def writer(redis_url: str) -> Iterator[RoomLogWriter]:
    writer = RoomLogWriter.connect(redis_url)
    yield writer
    writer.close()


def test_a_slow_reader_is_cut_off_and_the_others_are_not(
    redis_url: str, writer: RoomLogWriter, room_id: uuid.UUID, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Bridge(chat.settings(redis_url, limits=Limits(unread=200_000))) as bridge,
        bridge.browser(ALICE, room_id) as reader,
    ):
        slow = _stalled_socket(bridge, room_id)
        sent = 0
        while "reader too slow (4508)" not in caplog.text:
            writer.append([posted(room_id, "x" * 4_000) for _ in range(25)])
            reader.bodies(25)
            sent += 100_000
            # Loopback sockets buffer some megabytes before anything piles up.
            assert sent < 50_000_000, "the slow reader was never cut off"
        assert f"user {BOB} at {HOST}: reader too slow" in caplog.text
        assert b"\x88" not in _read_to_the_end(slow)[-4:]
        reader.nothing_more()


def test_a_slow_reader_that_reads_on_is_not_cut_off(
    redis_url: str, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    """As over a slow network: some seconds behind, and never still."""
    limits = Limits(behind=1.0, unread=2**20)
    with Bridge(chat.settings(redis_url, limits=limits)) as bridge:
        slow = _stalled_socket(bridge, room_id)
        writer.append([posted(room_id, "x" * 4_000) for _ in range(150)])
        writer.append([posted(room_id, "the end")])
        received = b""
        started = time.monotonic()
        while b"the end" not in received:
            data = slow.recv(16_384)
            assert data, f"cut off after {len(received)} bytes"
            received += data
            # The pace of the network.
            time.sleep(0.1)
        assert time.monotonic() - started > 3 * limits.behind
        slow.close()


def test_a_stalled_reader_does_not_hold_up_the_end(
    redis_url: str, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    limits = Limits(unread=2**30, close=0.5)
    with (
        Bridge(chat.settings(redis_url, limits=limits)) as bridge,
        bridge.browser(ALICE, room_id) as reader,
    ):
        slow = _stalled_socket(bridge, room_id)
        for _ in range(100):
            writer.append([posted(room_id, "x" * 4_000) for _ in range(25)])
            reader.bodies(25)
        # The end of the block waits for the bridge, and fails when it does not end.
    assert len(_read_to_the_end(slow)) < 10_000_000, "everything fitted into the kernel's buffers"


def _stalled_socket(bridge: Bridge, room_id: uuid.UUID) -> socket.socket:
    """BOB's socket, subscribed, that reads nothing from then on."""
    address = urlsplit(bridge.url)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.settimeout(chat.SECONDS)
    raw.connect((address.hostname, address.port))
    raw.sendall(
        f"GET / HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {ORIGIN}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    for frame in (
        {"type": "authenticate", "ticket": ticket(BOB, [room_id])},
        {"type": "subscribe", "room_id": str(room_id)},
    ):
        data = json.dumps(frame).encode()
        raw.sendall(b"\x81\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data)
    received = b""
    while b'"subscribed"' not in received:
        received += raw.recv(4_096)
    return raw


def _read_to_the_end(raw: socket.socket) -> bytes:
    received = b""
    with raw:
        try:
            while chunk := raw.recv(65_536):
                received += chunk
        except ConnectionResetError:
            pass
    return received


class TestProcess:
    @pytest.fixture
    def environment(self, redis_url: str) -> dict[str, str]:
        return {
            "REDIS_URL": redis_url,
            "BRIDGE_PORT": str(free_port()),
            "ALLOWED_ORIGINS": ORIGIN,
            "TICKET_KEYS": ":".join(KEYS.keys[0]),
        }

    def test_sigterm_says_goodbye_and_ends(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        room_id = uuid.uuid4()
        with _ready(environment, tmp_path) as process:
            with Browser(f"ws://{HOST}:{environment['BRIDGE_PORT']}/") as browser:
                browser.authenticate(ALICE, room_id)
                browser.subscribe(room_id)
                process.send_signal(signal.SIGTERM)
                assert browser.close_code()[0] == 1012
            assert process.wait(PROCESS_SECONDS) == 0

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ALLOWED_ORIGINS", ""),
            ("TICKET_KEYS", "short:secret"),
            ("REDIS_URL", "http://127.0.0.1"),
            ("BRIDGE_PORT", "many"),
        ],
    )
    def test_a_bad_setting_is_named(
        self, environment: dict[str, str], name: str, value: str
    ) -> None:
        with _process(environment | {name: value}) as process:
            _, errors = process.communicate(timeout=PROCESS_SECONDS)
        assert process.returncode == 2
        assert f"chatbus: {name}:" in errors

    def test_a_taken_port_is_named(self, environment: dict[str, str]) -> None:
        with (
            socket.create_server((HOST, int(environment["BRIDGE_PORT"]))),
            _process(environment) as process,
        ):
            _, errors = process.communicate(timeout=PROCESS_SECONDS)
        assert f"chatbus: BRIDGE_PORT: cannot listen on {HOST}:" in errors


@contextmanager
def _process(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Killed at the end, with what it has started, if it still runs then."""
    with subprocess.Popen(
        [*COMMAND, "run", "bridge"],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


class TestSeveralBridges:
    @pytest.fixture
    def environment(self, redis_url: str) -> dict[str, str]:
        return {
            "REDIS_URL": redis_url,
            "BRIDGE_PORT": str(free_port()),
            "BRIDGE_WORKERS": "2",
            "BRIDGE_DRAIN": "0.2",
            "ALLOWED_ORIGINS": ORIGIN,
            "TICKET_KEYS": ":".join(KEYS.keys[0]),
        }

    def test_each_has_health_of_its_own(self, environment: dict[str, str], tmp_path: Path) -> None:
        first = free_ports(2)
        with _ready(environment | {"OPS_PORT": str(first)}, tmp_path):
            for port in (first, first + 1):
                assert requests.get(f"http://{HOST}:{port}/health/ready", timeout=10).ok

    def test_a_wrong_setting_is_named_once(self, environment: dict[str, str]) -> None:
        with _process(environment | {"TICKET_KEYS": "short:secret"}) as process:
            _, errors = process.communicate(timeout=PROCESS_SECONDS)
        assert process.returncode == 2
        assert errors.count("TICKET_KEYS:") == 1

    def test_they_share_a_port_and_one_that_dies_is_replaced(
        self, environment: dict[str, str], tmp_path: Path, writer: RoomLogWriter
    ) -> None:
        room_id = uuid.uuid4()
        url = f"ws://{HOST}:{environment['BRIDGE_PORT']}/"
        with _ready(environment, tmp_path) as process:
            parent = psutil.Process(process.pid)
            bridges = parent.children()
            assert len(bridges) == 2
            with ExitStack() as browsers:
                # The kernel shares them out by their ports; among 40 both have some.
                people = [browsers.enter_context(Browser(url)) for _ in range(40)]
                for number, person in enumerate(people):
                    person.authenticate(number + 1, room_id)
                    person.subscribe(room_id)
                assert all(_sockets(bridge) > 0 for bridge in bridges)
                writer.append([posted(room_id, "hi")])
                assert [person.bodies(1) for person in people] == [["hi"]] * 40
            bridges[0].kill()
            wait_until(lambda: not bridges[0].is_running(), what="it is dead and reaped")
            wait_until(lambda: len(parent.children()) == 2, what="there is another one")
            with Browser(url) as browser:
                browser.authenticate(ALICE)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PROCESS_SECONDS) == 0
            assert not any(bridge.is_running() for bridge in bridges)

    def test_they_do_not_outlive_their_parent(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        with _ready(environment, tmp_path) as process:
            bridges = psutil.Process(process.pid).children()
            assert len(bridges) == 2
            with Browser(f"ws://{HOST}:{environment['BRIDGE_PORT']}/") as browser:
                browser.authenticate(ALICE)
                process.kill()
                assert browser.close_code()[0] == 1012, "they drain"
            psutil.wait_procs(bridges, timeout=PROCESS_SECONDS)
            assert not any(bridge.is_running() for bridge in bridges)
            assert not is_open(int(environment["BRIDGE_PORT"]))

    def test_a_taken_port_ends_all_of_them(self, environment: dict[str, str]) -> None:
        with (
            socket.create_server((HOST, int(environment["BRIDGE_PORT"]))),
            _process(environment) as process,
        ):
            _, errors = process.communicate(timeout=PROCESS_SECONDS)
        assert process.returncode == 2
        assert "BRIDGE_PORT: cannot listen on" in errors

    def test_two_signals_end_it_at_once(self, environment: dict[str, str], tmp_path: Path) -> None:
        environment["BRIDGE_DRAIN"] = "600"
        url = f"ws://{HOST}:{environment['BRIDGE_PORT']}/"
        with _ready(environment, tmp_path) as process:
            browsers = [Browser(url) for _ in range(4)]
            for number, browser in enumerate(browsers):
                browser.authenticate(number + 1)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not is_open(int(environment["BRIDGE_PORT"])))
            process.send_signal(signal.SIGTERM)
            assert process.wait(PROCESS_SECONDS) == 0
            for browser in browsers:
                browser.socket.close()


@contextmanager
def _ready(environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has said that it is ready."""
    path = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(path)
        notified.settimeout(PROCESS_SECONDS)
        with _process(environment | {"NOTIFY_SOCKET": path}) as process:
            assert notified.recv(64) == b"READY=1"
            yield process


def _sockets(bridge: psutil.Process) -> int:
    return len([c for c in bridge.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED])
