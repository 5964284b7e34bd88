"""The web tier's processes, started as the service manager starts them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from bus.errors import SettingError
from bus.settings import Environment
from tests.support.ports import free_port
from tests.unit.webapp.conftest import SETTINGS
from webapp.project.server import ServerSettings

START = (
    "import os, sys, importlib; from bus.settings import Environment;"
    "importlib.import_module(sys.argv[1]).main(Environment(os.environ))"
)
WAIT_SECONDS = 30


class Started:
    """A process that has said READY."""

    def __init__(self, module: str, folder: Path, **settings: str) -> None:
        address = str(folder / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
            notifications.bind(address)
            notifications.settimeout(WAIT_SECONDS)
            database = f"sqlite:///{folder}/db.sqlite3"
            environment = {**os.environ, **SETTINGS, **settings, "NOTIFY_SOCKET": address}
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, module],
                env=environment | {"DATABASE_URL": database},
                stderr=subprocess.PIPE,
                text=True,
            )
            self.said = notifications.recv(1024).decode()

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode, log


@pytest.fixture
def start(tmp_path: Path) -> Iterator[type[Started]]:
    started: list[Started] = []

    def start_one(module: str, **settings: str) -> Started:
        started.append(Started(module, tmp_path, **settings))
        return started[-1]

    yield start_one
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def test_the_web_serves_once_it_says_ready_and_ends_on_sigterm(start):
    port = free_port()
    web = start("webapp.project.server", WEB_PORT=str(port), ALLOWED_HOSTS="127.0.0.1")
    assert web.said.startswith("READY=1")
    answer = requests.get(f"http://127.0.0.1:{port}/health/live", timeout=WAIT_SECONDS)
    assert answer.json() == {"status": "ok"}
    long_line = requests.get(f"http://127.0.0.1:{port}/?{'x' * 5_000}", timeout=WAIT_SECONDS)
    assert long_line.status_code in (400, 414)
    assert web.stop()[0] == 0


def test_the_relay_waits_out_a_database_without_tables(start):
    relay = start("webapp.outbox.relay")
    assert relay.said.startswith("READY=1")
    first = relay.process.stderr.readline()
    assert "no such table" in first
    code, log = relay.stop()
    assert code == 0
    assert "Traceback" not in first + log


def test_nobody_but_the_server_says_what_the_path_is(start):
    """Gunicorn by itself takes these two headers over from who connects by the loopback."""
    port = free_port()
    start("webapp.project.server", WEB_PORT=str(port), ALLOWED_HOSTS="127.0.0.1")
    answer = requests.get(
        f"http://127.0.0.1:{port}/health/live",
        headers={"PATH_INFO": "/nonsense", "SCRIPT_NAME": "/health"},
        timeout=WAIT_SECONDS,
    )
    assert answer.json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", ""),
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "nonsense://"),
        ("BROKER_URL", "http://x"),
        ("MONGO_URL", ""),
        ("MONGO_URL", "mongodb://"),
        ("MONGO_URL", "mongodb://127.0.0.1:port/"),
        ("TICKET_KEYS", "short:key"),
        ("BRIDGE_URL", "http://x"),
        ("DEBUG", "perhaps"),
    ],
)
def test_a_bad_setting_ends_the_process_with_its_name(name, value):
    process = subprocess.run(
        [sys.executable, "-c", START, "webapp.project.server"],
        env={**os.environ, **SETTINGS, name: value},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert process.returncode == 1
    assert f"SettingError: {name}: " in process.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("WEB_PORT", "0"), ("WEB_WORKERS", "no"), ("WEB_THREADS", "1000")]
)
def test_bad_sizes_are_refused(name, value):
    with pytest.raises(SettingError, match=name):
        ServerSettings.from_environment(Environment({name: value}))


def test_an_ipv6_address_is_bound_in_brackets():
    settings = ServerSettings.from_environment(Environment({"WEB_HOST": "::1"}))
    assert settings.for_gunicorn()["bind"] == "[::1]:8000"
