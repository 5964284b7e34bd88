"""A running ``chatbus up`` for a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import requests

from bus.runtime.process import die_with_parent
from deploy.local.ports import authority
from deploy.processes import PROCESSES
from tests.support.ports import HOST, free_ports
from tests.support.wait import patience, wait_until

# Web, bridge and gateway, and the health of every process.
PORTS = 3 + len(PROCESSES)
START_SECONDS = 120.0
STOP_SECONDS = 60.0
# Not handed down: a developer's own servers are none of the tests' business.
SETTINGS = {
    *("DATABASE_URL", "BROKER_URL", "BROKER_API_URL", "REDIS_URL", "MONGO_URL"),
    *("SECRET_KEY", "TICKET_KEYS", "ALLOWED_HOSTS", "ALLOWED_ORIGINS", "BRIDGE_URL"),
    *("NOTIFY_SOCKET", "LOG_LEVEL", "LOG_FORMAT", "OPS_HOST", "OPS_PORT", "OPS_TARGETS"),
}
# For who posts as fast as the answers come.
HIGH_LIMITS = {
    "LIMIT_MESSAGES": "1000000/m/person",
    "LIMIT_MESSAGE_BYTES": "100000000000/m/person",
    "LIMIT_ROOMS": "1000000/m/person",
    "LIMIT_TICKETS": "1000000/m/person",
}
UP = (sys.executable, "-P", "-m", "deploy.cli", "up")


class Stack:
    """``chatbus up`` on free ports of ``host`` and its own data folder, with ``settings`` on top
    of the environment."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        port: int | None = None,
        host: str = HOST,
    ) -> None:
        self.host = host
        self.port = port or free_ports(PORTS)
        self.data = folder / "data"
        self._log = folder / "log"
        inherited = {key: value for key, value in os.environ.items() if key not in SETTINGS}
        self.env = {**inherited, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://{authority(self.host, self.port)}"

    @property
    def bridge_url(self) -> str:
        return f"ws://{authority(self.host, self.port + 1)}/"

    @property
    def gateway_url(self) -> str:
        return f"http://{authority(self.host, self.port + 2)}"

    @property
    def output(self) -> str:
        """All that it and its processes have printed."""
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def ops_url(self, name: str) -> str:
        """Where a process tells its health and metrics."""
        targets = dict(word.split("=") for word in self.settings()["OPS_TARGETS"].split(","))
        return f"http://{targets[name]}"

    @property
    def command(self) -> list[str]:
        where = ("--host", self.host, "--port", str(self.port), "--data", str(self.data))
        return [*UP, *where]

    def start(self) -> None:
        """Starts it; ``wait_until_ready`` tells when it can be used."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - it only calls prctl
            )

    def wait_until_ready(self) -> None:
        wait_until(self.is_ready, START_SECONDS, "chatbus up is ready")

    def processes(self) -> dict[str, int]:
        """Name → process id of everything that it runs."""
        pids: dict[str, int] = json.loads((self.data / "processes.json").read_text())
        return pids

    def pid_of(self, name: str) -> int:
        return self.processes()[name]

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Sends a signal to one of its processes; returns the process id."""
        pid = self.pid_of(name)
        os.kill(pid, number)
        return pid

    def wait_until_replaced(self, name: str, pid: int) -> int:
        """Waits until ``name`` runs as another process; returns its id."""
        wait_until(lambda: self.processes().get(name, pid) != pid, what=f"{name} runs again")
        return self.pid_of(name)

    def settings(self) -> dict[str, str]:
        """What its processes run with, for ``chatbus import`` and clients of the servers."""
        text = (self.data / "environment").read_text()
        return self.env | dict(line.split("=", 1) for line in text.splitlines())

    def bridge_is_ready(self) -> bool:
        """Whether the bridge answers, and hears Redis."""
        try:
            return requests.get(
                f"http://{HOST}:{self.port + 1}/health/ready", timeout=patience(5)
            ).ok
        except requests.ConnectionError:
            return False

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process
        self._process.terminate()
        return self.wait()

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        assert self._process
        return self._process.wait(timeout)

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self._process.kill()
                raise

    def is_ready(self) -> bool:
        """Whether it has said so. Raises AssertionError when it has ended instead."""
        assert self._process
        if self._process.poll() is not None:
            raise AssertionError(f"chatbus up ended at its start:\n{self.output[-4000:]}")
        return "chatbus is ready" in self.output
