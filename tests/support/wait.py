"""Waiting for a condition instead of sleeping."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

INTERVAL = 0.02
# Times as long as on a quiet machine that the tests wait before they fail.
PATIENCE = float(os.environ.get("TEST_PATIENCE", "3"))


def patience(seconds: float) -> float:
    """How long to wait for what takes at most ``seconds`` on a quiet machine."""
    return seconds * PATIENCE


def wait_until(condition: Callable[[], Found], timeout: float = 20.0, what: str = "") -> Found:
    """Returns the first true value of ``condition()``; fails after ``timeout`` seconds, times
    TEST_PATIENCE."""
    deadline = time.monotonic() + patience(timeout)
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience(timeout):g} s: {what or condition}")
        time.sleep(INTERVAL)
    return found
