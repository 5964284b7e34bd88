"""Child processes kept running: started, watched, started again, and stopped in order."""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bus.errors import BusError, SettingError
from deploy.local.child import Child, Program

logger = logging.getLogger(__name__)

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
PROBE_INTERVAL = 0.03


class StartFailed(BusError):
    """Something did not get ready; the text names it."""


class Stopped(Exception):
    """A stop signal came while something else was waited for."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Children that are stopped together; one that still runs after ``seconds`` is killed."""

    names: Sequence[str]
    seconds: float


class Supervisor:
    """Runs children until a stop signal.

    One thread waits for everything at once: signals, notifications, the time of a restart. Create
    it in the main thread; ``on_change`` gets the process ids by name whenever they change.
    """

    def __init__(self, on_change: Callable[[Mapping[str, int]], None]) -> None:
        self._on_change = on_change
        self._children: dict[str, Child] = {}
        self._stop_signals = 0
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._listen_to_signals()

    def start(self, programs: Iterable[Program]) -> None:
        for program in programs:
            child = Child(program)
            self._children[program.name] = child
            self._selector.register(child.notifications, selectors.EVENT_READ, child.notified)
            child.start()
        self._report()

    def wait_until_ready(self, names: Sequence[str], timeout: float) -> None:
        """Raises Stopped on a stop signal, StartFailed after ``timeout`` seconds, and
        SettingError as soon as one of them refuses its settings."""
        deadline = time.monotonic() + timeout
        while late := [name for name in names if not self._children[name].ready]:
            if time.monotonic() > deadline:
                raise StartFailed(f"not ready after {timeout:g} s: {', '.join(late)}")
            self._step(deadline)
            if self._stop_signals:
                raise Stopped

    def run(self) -> None:
        """Returns when a stop signal came."""
        while not self._stop_signals:
            self._step()

    def stop(self, stages: Iterable[Stage]) -> None:
        """Stops the children, one stage after the other; a second signal ends all at once."""
        self._stopping = True
        for stage in stages:
            children = [self._children[name] for name in stage.names if name in self._children]
            self._stop(children, stage.seconds)
        for child in self._children.values():
            self._selector.unregister(child.notifications)
            child.close()
        self._report()

    def _stop(self, children: list[Child], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for child in children:
            child.terminate()
        while any(child.running for child in children):
            if self._stop_signals > 1 or time.monotonic() > deadline:
                for child in children:
                    child.kill()
            self._step(deadline)

    def _step(self, deadline: float = float("inf")) -> None:
        """Waits for the next thing that happens, and acts on it."""
        for key, _ in self._selector.select(self._seconds_to_wait(deadline)):
            key.data()
        changed = [self._tend(child) for child in self._children.values()]
        if any(changed):
            self._report()

    def _tend(self, child: Child) -> bool:
        """Looks after one child; True if its process id changed."""
        if child.has_exited():
            if not (self._stopping or child.finished):
                self._plan_restart(child)
            return True
        if child.is_due() and not self._stopping:
            child.start()
            return True
        child.probe()
        return False

    def _plan_restart(self, child: Child) -> None:
        if child.refuses_settings():
            raise SettingError(child.name, "refuses its settings; its line above says which")
        delay = child.plan_restart()
        logger.warning("%s %s; it starts again in %.1f s", child.name, child.last_words(), delay)

    def _seconds_to_wait(self, deadline: float) -> float | None:
        moments = [
            deadline,
            *(child.next_look(PROBE_INTERVAL) for child in self._children.values()),
        ]
        soonest = min(moments)
        return None if soonest == float("inf") else max(0.0, soonest - time.monotonic())

    def _report(self) -> None:
        self._on_change(
            {child.name: child.pid for child in self._children.values() if child.running}
        )

    def _listen_to_signals(self) -> None:
        """Signals become bytes in a socket, so that one select waits for them too."""
        self._arrivals, wakeup = socket.socketpair()
        self._arrivals.setblocking(False)
        wakeup.setblocking(False)
        # What the caller has ignored stays so: that is how nohup works.
        heard = {n for n in STOP_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN}
        for number in (*heard, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wakeup.detach(), warn_on_full_buffer=False)
        self._selector.register(self._arrivals, selectors.EVENT_READ, self._on_signals)

    def _on_signals(self) -> None:
        for number in self._arrivals.recv(4096):
            if number in STOP_SIGNALS:
                self._stop_signals += 1
