"""Pauses between attempts after a failure."""

from __future__ import annotations

import random


class Backoff:
    """Growing, jittered pauses, from ``first`` up to ``longest`` seconds.

    Call ``reset`` after a success.
    """

    def __init__(self, first: float = 0.1, longest: float = 10.0) -> None:
        self._first = first
        self._longest = longest
        self._attempt = 0

    def next(self) -> float:
        """How many seconds to wait now."""
        bound = min(self._longest, self._first * 2.0 ** min(self._attempt, 30))
        self._attempt += 1
        return random.uniform(bound / 2, bound)

    def reset(self) -> None:
        self._attempt = 0
