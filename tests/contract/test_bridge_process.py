"""The bridge as a process, and among readers that do not read."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bridge.limits import Limits
from bus.room_log import RoomLogWriter
from tests.contract import chat
from tests.contract.chat import (
    KEYS,
    ORIGIN,
    Bridge,
    Browser,
    posted,
    ticket,
)
from tests.support.ports import HOST, free_port

ALICE, BOB = 1, 2


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
        notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(chat.SECONDS)
        environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        room_id = uuid.uuid4()
        with notified, _process(environment) as process:
            assert notified.recv(64) == b"READY=1"
            with Browser(f"ws://{HOST}:{environment['BRIDGE_PORT']}/") as browser:
                browser.authenticate(ALICE, room_id)
                browser.subscribe(room_id)
                process.send_signal(signal.SIGTERM)
                assert browser.close_code()[0] == 1012
            assert process.wait(chat.SECONDS) == 0

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
            _, errors = process.communicate(timeout=chat.SECONDS)
        assert process.returncode != 0
        assert f"SettingError: {name}:" in errors

    def test_a_taken_port_is_named(self, environment: dict[str, str]) -> None:
        with (
            socket.create_server((HOST, int(environment["BRIDGE_PORT"]))),
            _process(environment) as process,
        ):
            _, errors = process.communicate(timeout=chat.SECONDS)
        assert f"SettingError: BRIDGE_PORT: cannot listen on {HOST}:" in errors


def _process(environment: dict[str, str]) -> subprocess.Popen[str]:
    code = (
        "import os; from bridge.server import main; from bus.settings import Environment;"
        "main(Environment(os.environ))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
