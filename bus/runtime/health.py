"""Readiness checks with a bounded time to answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future

logger = logging.getLogger(__name__)

PROBE_SECONDS = 2.0
# A more frequent caller gets the same answer: checking must not become a load.
FRESH_SECONDS = 1.0

OK = "ok"
PAUSED = "paused"
CONNECTING = "connecting"
WELL = frozenset({OK, PAUSED})
TIMEOUT = "timeout"
UNREACHABLE = "unreachable"

Check = Callable[[], str | None]
"""Returns None or ``ok`` when all is well, else what is wrong, in a few words without secrets; or
raises."""


def is_ready(checks: Mapping[str, str], optional: Collection[str] = ()) -> bool:
    """Whether all checks but the ``optional`` ones are well; a pause on purpose is well."""
    return all(checks[name] in WELL for name in checks if name not in optional)


class Probes:
    """Checks by name; calling it returns the outcome of each.

    The checks run side by side, each in its own thread and never twice at once. So a server that
    stalls costs PROBE_SECONDS and one thread, however frequent the calls are.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._probes = [_Probe(name, check) for name, check in checks.items()]

    def __call__(self) -> dict[str, str]:
        deadline = time.monotonic() + PROBE_SECONDS
        running = [(probe.name, probe.start()) for probe in self._probes]
        return {name: _outcome(future, deadline) for name, future in running}


class _Probe:
    def __init__(self, name: str, check: Check) -> None:
        self.name = name
        self._check = check
        self._lock = threading.Lock()
        self._future: Future[str] = Future()
        self._future.set_result(OK)
        self._ended = float("-inf")
        self._was_well = True

    def start(self) -> Future[str]:
        """The current run, or the last one if it is fresh; else a new one."""
        with self._lock:
            is_old = time.monotonic() - self._ended > FRESH_SECONDS
            if self._future.done() and is_old:
                self._future = Future()
                threading.Thread(target=self._run, args=(self._future,), daemon=True).start()
            return self._future

    def _run(self, future: Future[str]) -> None:
        try:
            outcome = self._check() or OK
        except Exception as error:  # noqa: BLE001 - a check may fail in any way
            outcome = UNREACHABLE
            self._report(outcome, error)
        else:
            self._report(outcome, outcome)
        self._ended = time.monotonic()
        future.set_result(outcome)

    def _report(self, outcome: str, reason: object) -> None:
        """Logs a change once; only the log gets the details."""
        is_well = outcome in WELL
        if is_well != self._was_well:
            logger.log(logging.INFO if is_well else logging.WARNING, "%s: %s", self.name, reason)
        self._was_well = is_well


def _outcome(future: Future[str], deadline: float) -> str:
    try:
        return future.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        return TIMEOUT
