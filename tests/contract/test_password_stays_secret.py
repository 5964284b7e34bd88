"""No command and no process prints a password, whatever its server answers.

Every URL holds the same wrong password. Each command runs until it has met the refusal.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.ports import HOST, free_port
from tests.support.rabbitmq import USER, RabbitMQ
from tests.support.servers import MariaDB, Redis
from tests.support.wait import wait_until

QUOTED = "hunter2%2Fhunter3"
WRONG = "hunter2/hunter3"
# What the servers say to it, and what their libraries make of that.
REFUSAL = re.compile(r"refused|denied|invalid username|WRONGPASS|not connected|401", re.IGNORECASE)


@pytest.fixture(scope="module")
def refused(rabbitmq: RabbitMQ, redis_server: Redis, mariadb: MariaDB) -> dict[str, str]:
    """The settings of every process, for servers that refuse the password."""
    return {
        "BROKER_URL": f"amqp://{USER}:{QUOTED}@{HOST}:{rabbitmq.port}/",
        "BROKER_API_URL": f"http://{USER}:{QUOTED}@{rabbitmq.api_url.removeprefix('http://')}",
        "REDIS_URL": f"redis://:{QUOTED}@{HOST}:{redis_server.port}/0",
        "DATABASE_URL": f"mysql://chatbus:{QUOTED}@{HOST}:{mariadb.port}/chatbus",
        "MONGO_URL": f"mongodb://chatbus:{QUOTED}@{HOST}:{free_port()}/chat",
        "SECRET_KEY": "only-for-tests-0123456789-abcdefgh",
        "TICKET_KEYS": f"test:{'k' * 32}",
        "ALLOWED_ORIGINS": "http://localhost:8000",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "text",
    }


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts ``chatbus`` and returns what it printed until it ended or had met the refusal."""
    started: list[subprocess.Popen[bytes]] = []

    def start(settings: dict[str, str], *words: str) -> str:
        output = tmp_path / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli", *words],
                env={**os.environ, **settings},
                stdout=file,
                stderr=file,
            )
        started.append(process)

        def has_met_it() -> bool:
            return process.poll() is not None or bool(REFUSAL.search(output.read_text()))

        wait_until(has_met_it, 60.0, "the refusal")
        process.terminate()
        process.wait(30)
        return output.read_text()

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def _check(output: str) -> None:
    for secret in ("hunter2", "hunter3", _in_base64(f"{USER}:{WRONG}"), _in_base64(WRONG)):
        assert secret not in output


def _in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode().rstrip("=")[:-1]


@pytest.mark.parametrize(
    "words",
    [
        *(("migrate",), ("topology", "plan"), ("status",), ("run", "mongo_writer")),
        *(("run", "gateway"), ("run", "bridge"), ("run", "outbox_relay")),
    ],
    ids=" ".join,
)
def test_a_refused_login(
    words: tuple[str, ...], refused: dict[str, str], run: Callable[..., str]
) -> None:
    port = str(free_port())
    output = run(refused | {"BRIDGE_PORT": port, "GATEWAY_PORT": port}, *words)
    assert REFUSAL.search(output)
    _check(output)


@pytest.mark.parametrize(
    ("pattern", "replaced"),
    [(r"@[^/]*", "@no-such-host.invalid"), (r":\d+", ":port"), ("$", "?x=1")],
)
def test_urls_that_cannot_be_used(
    pattern: str, replaced: str, refused: dict[str, str], run: Callable[..., str]
) -> None:
    urls = {name: re.sub(pattern, replaced, url) for name, url in refused.items() if "://" in url}
    output = run(refused | urls, "status")
    assert all(name in output for name in ("BROKER_URL", "REDIS_URL", "MONGO_URL"))
    _check(output)
