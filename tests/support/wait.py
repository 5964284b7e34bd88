"""Waiting for a condition instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

INTERVAL = 0.02


def wait_until(condition: Callable[[], Found], timeout: float = 20.0, what: str = "") -> Found:
    """Returns the first true value of ``condition()``; fails after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}")
        time.sleep(INTERVAL)
    return found
