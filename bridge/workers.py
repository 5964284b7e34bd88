"""Several bridges on one port, each on a core of its own: a parent that starts, watches and stops
them. The kernel shares the connections out among those that listen (SO_REUSEPORT, socket(7))."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

from bus.errors import SettingError
from bus.runtime.backoff import Backoff
from bus.runtime.process import die_with_parent, notify_ready

logger = logging.getLogger(__name__)

# What a worker ends with when a setting is wrong: it would be wrong again.
BAD_SETTING = 2
# A worker that lived for so long is started again without delay.
SETTLED_SECONDS = 60.0

Work = Callable[[int, Callable[[], object]], None]
"""What worker ``number`` does until SIGTERM; it calls its second argument when it is ready."""


class Workers:
    """Runs ``count`` of them until SIGTERM or SIGINT, and one that dies is replaced.

    To be used before anything starts a thread: workers are forks.
    """

    def __init__(self, count: int, work: Work) -> None:
        self._count = count
        self._work = work
        self._numbers: dict[int, int] = {}
        self._due = dict.fromkeys(range(count), 0.0)
        self._started: dict[int, float] = {}
        self._backoffs = [Backoff(longest=10.0) for _ in range(count)]
        self._ready: set[int] = set()
        self._stopping = False
        self._exit_code = 0

    def run(self) -> int:
        """The exit code: that of a worker whose settings were wrong, else 0."""
        woken, wakes = socket.socketpair()
        ready, is_ready = os.pipe()
        wakes.setblocking(False)
        signal.set_wakeup_fd(wakes.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, _wake)
        with woken, wakes, selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ, lambda: self._signals(woken.recv(64)))
            selector.register(ready, selectors.EVENT_READ, lambda: self._note_ready(ready))
            while not self._stopping or self._numbers:
                self._start_due(is_ready)
                for key, _ in selector.select(self._until_due()):
                    key.data()
            signal.set_wakeup_fd(-1)
        return self._exit_code

    def _start_due(self, is_ready: int) -> None:
        now = time.monotonic()
        for number in [number for number, due in self._due.items() if due <= now]:
            del self._due[number]
            self._started[number] = now
            end_with_parent = die_with_parent(signal.SIGTERM)
            pid = os.fork()
            if not pid:
                self._become(number, is_ready, end_with_parent)
            self._numbers[pid] = number

    def _become(self, number: int, is_ready: int, end_with_parent: Callable[[], None]) -> None:
        """The worker's whole life."""
        signal.set_wakeup_fd(-1)
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(each, signal.SIG_DFL)
        # Else it would go on beside those of the next parent, with old code and old keys.
        end_with_parent()
        code = 1
        try:
            self._work(number, lambda: os.write(is_ready, bytes([number])))
            code = 0
        except SettingError as error:
            logger.critical("%s", error)
            code = BAD_SETTING
        except BaseException:
            logger.exception("worker %d ended by an error", number)
        finally:
            logging.shutdown()
            os._exit(code)

    def _until_due(self) -> float | None:
        return max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None

    def _note_ready(self, ready: int) -> None:
        before = len(self._ready)
        self._ready.update(os.read(ready, 64))
        if before < len(self._ready) == self._count:
            notify_ready()

    def _signals(self, numbers: bytes) -> None:
        if signal.SIGCHLD in numbers:
            self._reap()
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stop(signal.SIGKILL if self._stopping else signal.SIGTERM)

    def _reap(self) -> None:
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._ended(self._numbers.pop(pid), os.waitstatus_to_exitcode(status))

    def _ended(self, number: int, code: int) -> None:
        if self._stopping:
            return
        if code == BAD_SETTING:
            self._exit_code = code
            self._stop(signal.SIGTERM)
            return
        backoff = self._backoffs[number]
        if time.monotonic() - self._started[number] > SETTLED_SECONDS:
            backoff.reset()
        delay = backoff.next()
        logger.error("worker %d ended with %d; another one in %.1f s", number, code, delay)
        self._due[number] = time.monotonic() + delay

    def _stop(self, number: signal.Signals) -> None:
        self._stopping = True
        self._due.clear()
        for pid in self._numbers:
            os.kill(pid, number)


def _wake(number: int, frame: FrameType | None) -> None:
    """Python writes the number to the wakeup descriptor before it calls this."""
