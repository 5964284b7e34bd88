"""One process of chatbus, as its supervisor would run it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

from deploy.local.child import Child, Program, chatbus_command
from tests.support.wait import patience, wait_until

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0


class Record:
    """A file that processes write to, read from where the current test began."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._start = 0

    def begin_test(self) -> None:
        self._start = self._path.stat().st_size

    def read(self) -> str:
        return self._path.read_bytes()[self._start :].decode(errors="replace")


class Process:
    """One process of chatbus, ready when made."""

    def __init__(self, name: str, log: Path, settings: dict[str, str]) -> None:
        self.log = Record(log)
        self._child = Child(
            Program(
                name,
                chatbus_command("run", name),
                environment={**os.environ, "PYTHONPATH": str(ROOT), **settings},
                log=log,
            )
        )
        self._child.start()
        self._child.notifications.settimeout(patience(START_SECONDS))
        self._child.notified()

    @property
    def output(self) -> str:
        """Since the test began."""
        return self.log.read()

    @property
    def running(self) -> bool:
        self._child.has_exited()
        return self._child.running

    def memory(self) -> int:
        """Its resident bytes."""
        resident: int = psutil.Process(self._child.pid).memory_info().rss
        return resident

    def terminate(self) -> None:
        os.kill(self._child.pid, signal.SIGTERM)

    def kill(self) -> None:
        self._child.kill()
        self.wait()

    def wait(self) -> int:
        """Returns the exit code when the process has ended."""
        wait_until(self._child.has_exited, what=f"{self._child.name} ends")
        assert self._child.exit_code is not None
        return self._child.exit_code

    def stop(self) -> None:
        self.terminate()
        self.wait()

    def close(self) -> None:
        if self._child.running:
            self.kill()
        self._child.close()
