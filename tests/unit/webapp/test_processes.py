"""The web tier's processes, started as the service manager starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
import pytest
import requests

from bus.errors import SettingError
from bus.runtime.settings import Environment
from tests.support.ports import free_port
from tests.unit.webapp.conftest import SETTINGS, START, WAIT_SECONDS
from webapp.project.server import ServerSettings


def test_the_web_serves_once_it_says_ready_and_ends_on_sigterm(start):
    port = free_port()
    web = start("webapp.project.server", WEB_PORT=str(port), ALLOWED_HOSTS="127.0.0.1")
    assert web.said.startswith("READY=1")
    answer = requests.get(f"http://127.0.0.1:{port}/health/live", timeout=WAIT_SECONDS)
    assert answer.json() == {"status": "ok"}
    long_line = requests.get(f"http://127.0.0.1:{port}/?{'x' * 70_000}", timeout=WAIT_SECONDS)
    assert long_line.status_code == 414
    assert web.stop()[0] == 0


def test_the_workers_counts_are_gone_with_the_web(start, tmp_path):
    """They share files; each worker that ends, ends this module's main as well."""
    folder = tmp_path / "temporary"
    left_by_a_killed_one = folder / "chatbus-metrics-left"
    left_by_a_killed_one.mkdir(parents=True)
    os.utime(left_by_a_killed_one, (0, 0))
    port, ops_port = free_port(), free_port()
    web = start(
        "webapp.project.server",
        **{"WEB_PORT": str(port), "OPS_PORT": str(ops_port), "WEB_WORKERS": "2"},
        **{"TMPDIR": str(folder), "ALLOWED_HOSTS": "127.0.0.1"},
    )
    for worker in psutil.Process(web.process.pid).children():
        worker.terminate()
    for _ in range(3):
        requests.get(f"http://127.0.0.1:{port}/health/live", timeout=WAIT_SECONDS)
    metrics = requests.get(f"http://127.0.0.1:{ops_port}/metrics", timeout=WAIT_SECONDS).text
    assert 'chatbus_http_requests_total{method="GET",status="2xx"} 3.0' in metrics
    assert list(folder.glob("chatbus-metrics-*"))
    assert web.stop()[0] == 0
    assert not list(folder.iterdir())


def test_a_proxy_that_is_named_says_what_came_by_https(start):
    port = free_port()
    start(
        "webapp.project.server",
        **{"WEB_PORT": str(port), "ALLOWED_HOSTS": "127.0.0.1", "WEB_TRUSTED_PROXIES": "127.0.0.1"},
        **{"HTTPS": "1", "BRIDGE_URL": "wss://{host}/ws"},
    )

    def get(path, **headers):
        url = f"http://127.0.0.1:{port}{path}"
        return requests.get(url, headers=headers, timeout=WAIT_SECONDS, allow_redirects=False)

    by_https = {"X-Forwarded-Proto": "https"}
    moved = get("/nowhere/")
    assert (moved.status_code, moved.headers["Location"][:8]) == (301, "https://")
    assert get("/nowhere/", **by_https).status_code == 404
    assert get("/api/rooms").status_code == 403
    assert get("/api/rooms", **by_https).status_code == 401


def test_a_taken_ops_port_ends_the_web_with_its_name(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = subprocess.run(
            [sys.executable, "-c", START, "webapp.project.server"],
            env={**os.environ, **SETTINGS, "OPS_PORT": port, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
    assert process.returncode == 1
    assert f"SettingError: OPS_PORT: cannot listen on 127.0.0.1:{port}: " in process.stderr
    assert not list(tmp_path.iterdir())


def test_the_relay_waits_out_a_database_without_tables(start):
    relay = start("webapp.outbox.relay")
    assert relay.said.startswith("READY=1")
    said = ""
    # Each part in a thread of its own; what waits in the outbox is a question of time first.
    while not all(f"no such table: {part}_" in said for part in ("clock", "mail")):
        line = relay.process.stderr.readline()
        assert line, said
        said += line
    code, log = relay.stop()
    assert code == 0
    assert "EMAIL_URL is not set: mails wait" in said
    assert "Traceback" not in said + log


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
    ("process", "name", "value"),
    [("web", "SECRET_KEY", "x"), ("request_worker", "DATABASE_URL", "mysql://u:hunter2@a/d?x=1")],
)
def test_a_bad_setting_ends_the_process_with_one_line_that_names_it(process, name, value):
    """Which settings are bad: see test_configuration."""
    ended = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "run", process],
        env={**os.environ, **SETTINGS, name: value},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"chatbus: {name}: ")
    assert ended.stderr.count("\n") == 1
    assert "hunter2" not in ended.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("WEB_PORT", "0"), ("WEB_WORKERS", "no"), ("WEB_THREADS", "1000")]
)
def test_bad_sizes_are_refused(name, value):
    with pytest.raises(SettingError, match=name):
        ServerSettings.from_environment(Environment({name: value}))


def test_https_needs_a_proxy_that_says_so():
    https = {"HTTPS": "1"}
    with pytest.raises(SettingError, match=r"^WEB_TRUSTED_PROXIES: names no proxy"):
        ServerSettings.from_environment(Environment(https))
    named = https | {"WEB_TRUSTED_PROXIES": "127.0.0.1"}
    assert ServerSettings.from_environment(Environment(named))


def test_an_ipv6_address_is_bound_in_brackets():
    settings = ServerSettings.from_environment(Environment({"WEB_HOST": "::1"}))
    assert settings.for_gunicorn()["bind"] == "[::1]:8000"
