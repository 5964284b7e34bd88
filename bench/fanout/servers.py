"""The bridge and its peers as processes of one core each."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.fanout.greetings import TICKET_KEY
from tests.support.ports import free_port, is_open
from tests.support.wait import wait_until

PEERS = Path(__file__).parent.parent / "peers"
SERVER_CORE, CROWD_CORE = 0, 1


class Server(NamedTuple):
    """How to start it, and what is missing for that, if anything."""

    command: list[str]
    missing: Callable[[], str | None]


def _no_module(*names: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        absent = [name for name in names if importlib.util.find_spec(name) is None]
        return f"{', '.join(absent)} not installed (make bench-fanout)" if absent else None

    return missing


def _no_package(*names: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        if not shutil.which("node"):
            return "no node on the PATH"
        absent = [name for name in names if not (PEERS / "node_modules" / name).exists()]
        return f"{', '.join(absent)} not installed (make bench-fanout)" if absent else None

    return missing


SERVERS = {
    "chatbus": Server([sys.executable, "-m", "deploy.cli", "run", "bridge"], lambda: None),
    "socket.io": Server(
        ["node", str(PEERS / "socketio_server.js")], _no_package("socket.io", "redis")
    ),
    "ws": Server(["node", str(PEERS / "ws_server.js")], _no_package("ws", "redis")),
    "python-socketio": Server(
        [sys.executable, str(PEERS / "python_socketio_server.py")], _no_module("socketio")
    ),
    "channels": Server(
        [sys.executable, str(PEERS / "channels_server.py")],
        _no_module("channels", "channels_redis"),
    ),
}


@contextmanager
def running(kind: str, redis_url: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server of ``kind``, alone on its core, and its port."""
    port = free_port()
    settings = {
        "PORT": str(port),
        "BRIDGE_PORT": str(port),
        "REDIS_URL": redis_url,
        "ALLOWED_ORIGINS": "http://127.0.0.1",
        "TICKET_KEYS": TICKET_KEY,
        "BRIDGE_SOCKETS_PER_ADDRESS": "100000",
        "BRIDGE_DRAIN": "0",
        "LOG_LEVEL": "WARNING",
    }
    with subprocess.Popen(SERVERS[kind].command, env=os.environ | settings) as process:
        pin(process.pid, SERVER_CORE)
        try:
            wait_until(lambda: is_open(port) or process.poll() is not None)
            assert process.poll() is None, f"{kind} did not start"
            yield process, port
        finally:
            process.kill()


def pin(pid: int, core: int) -> None:
    """Keeps a process on ``core``, where there is more than one."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(pid, {core})
