"""One child process: how it is started, how it says that it is ready, how it ended."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bus.runtime.process import die_with_parent

FIRST_DELAY = 0.2
# Long enough not to keep a processor busy; what is accepted until then waits.
LONGEST_DELAY = 10.0
# A child that lived this long is started again after the shortest pause.
STABLE_SECONDS = 30.0
BAD_SETTING = 2
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and how it reports that it is ready.

    ``answers`` asks a server that cannot notify. ``once`` is for a command that is to end with
    exit code 0. Its output goes to ``log``, or to this process's standard error. The kernel sends
    it ``signal_if_orphaned`` when this process dies.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] | None = None
    log: Path | None = None
    answers: Callable[[], bool] | None = None
    once: bool = False
    signal_if_orphaned: signal.Signals = signal.SIGKILL


def chatbus_command(*words: str) -> tuple[str, ...]:
    """``chatbus`` with ``words``, run by this interpreter."""
    # -P: a folder `bus` or `deploy` in the working directory must not be imported.
    return (sys.executable, "-P", "-m", "deploy.cli", *words)


class Child:
    """A program with its current process, if any."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.ready = False
        self.exit_code: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._failures = 0
        self._was_ready = False
        self._restart_at = NEVER
        # An address in Linux's abstract namespace leaves no file behind.
        self._address = f"\0chatbus-{secrets.token_hex(8)}"
        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notifications.bind(self._address)

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process
        return self._process.pid

    @property
    def finished(self) -> bool:
        """Whether a command that runs once has done its work."""
        return self.program.once and self.exit_code == 0

    def start(self) -> None:
        self.ready = False
        self.exit_code = None
        self._restart_at = NEVER
        self._started_at = time.monotonic()
        self._process = self._spawn()

    def notified(self) -> None:
        """Takes in a datagram of sd_notify."""
        if b"READY=1" in self.notifications.recv(4096).splitlines():
            self.ready = self._was_ready = True

    def probe(self) -> None:
        """Asks a server that cannot notify."""
        if self.running and not self.ready and self.program.answers:
            self.ready = self.program.answers()

    def has_exited(self) -> bool:
        """True once per process that ended."""
        if self._process is None or self._process.poll() is None:
            return False
        self._kill_group(self._process.pid)
        self.exit_code = self._process.returncode
        self._process = None
        self.ready = self.finished
        return True

    def refuses_settings(self) -> bool:
        """Whether it ended at its start because of a setting: another start would end the same."""
        return self.exit_code == BAD_SETTING and not self._was_ready

    def plan_restart(self) -> float:
        """Sets the time of the next start; returns the seconds until then."""
        stable = time.monotonic() - self._started_at > STABLE_SECONDS
        self._failures = 0 if stable else self._failures
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0**self._failures)
        self._failures += 1
        self._restart_at = time.monotonic() + delay
        return delay

    def is_due(self) -> bool:
        return time.monotonic() >= self._restart_at

    def next_look(self, probe_interval: float) -> float:
        """When there is something to do for this child, if nothing happens before."""
        if self.running and not self.ready and self.program.answers:
            return time.monotonic() + probe_interval
        return self._restart_at

    def last_words(self) -> str:
        """How it ended, in words."""
        assert self.exit_code is not None
        if self.exit_code < 0:
            return f"was killed by {signal.Signals(-self.exit_code).name}"
        return f"ended with exit code {self.exit_code}"

    def terminate(self) -> None:
        if self._process:
            self._process.terminate()

    def kill(self) -> None:
        if self._process:
            self._kill_group(self._process.pid)

    def close(self) -> None:
        self.notifications.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        environment = dict(self.program.environment or os.environ)
        # Nobody reads the notifications of a program that is asked. RabbitMQ, once ten of them
        # wait, tries to send the next one in a loop that takes half a processor.
        environment.pop("NOTIFY_SOCKET", None)
        if not self.program.answers:
            environment["NOTIFY_SOCKET"] = self._address.replace("\0", "@")
        with open(self.program.log or os.devnull, "ab") as log:
            return subprocess.Popen(
                self.program.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log if self.program.log else None,
                stderr=log if self.program.log else None,
                # A group of its own: the terminal's Ctrl-C reaches the supervisor alone, which
                # then stops its children in order.
                process_group=0,
                preexec_fn=die_with_parent(self.program.signal_if_orphaned),  # noqa: PLW1509 - there are no threads
            )

    @staticmethod
    def _kill_group(leader: int) -> None:
        """Ends the process and whatever it started."""
        with suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)
