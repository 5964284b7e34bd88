"""Buckets that fill at a steady rate, in the Redis that all processes share.

Everything that a request takes is taken in one round trip, all or nothing. The packages for this
(limits, throttled-py, pyrate-limiter) take from one bucket a call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bus.errors import StoreUnavailable
from bus.rooms.redis_client import connect, redis_errors

logger = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("take.lua").read_text()
# `web:` are the keys that only the web tier may use (deploy/make-secrets.sh). The hash tag keeps
# what one script needs together on a cluster.
PREFIX = "web:{limits}:"
# For an answer; to connect, redis_client allows 2 s. Then nothing asks for RETRY_SECONDS.
ANSWER_SECONDS = 0.5
RETRY_SECONDS = 5.0
# About 20 MB. To push a bucket out, a client needs as many others that it may take from.
MOST_BUCKETS = 100_000


@dataclass(frozen=True, slots=True)
class Taking:
    """``cost`` out of a bucket that holds ``count`` and fills in ``seconds``."""

    bucket: str
    cost: int
    count: int
    seconds: float

    @property
    def milliseconds(self) -> tuple[float, float]:
        """In how many the bucket fills from nothing, and in how many what is taken."""
        return self.seconds * 1_000, self.seconds * 1_000 * self.cost / self.count


@dataclass(frozen=True, slots=True)
class Shortage:
    """The bucket with too little, and the seconds until it has enough."""

    taking: Taking
    seconds: float


class Buckets(Protocol):
    def take(self, takings: Sequence[Taking]) -> Shortage | None:
        """Takes all of it, or nothing if a bucket has too little, which it returns."""


class RedisBuckets:
    def __init__(self, url: str) -> None:
        self._script = connect(url, ANSWER_SECONDS).register_script(SCRIPT)

    def take(self, takings: Sequence[Taking]) -> Shortage | None:
        """Raises StoreUnavailable."""
        keys = [f"{PREFIX}{taking.bucket}" for taking in takings]
        arguments = [number for taking in takings for number in taking.milliseconds]
        with redis_errors():
            answer: Any = self._script(keys, arguments)
        number, wait = answer
        return Shortage(takings[number - 1], wait / 1_000) if number else None


class MemoryBuckets:
    """Those of this process alone, by the same rules as in ``take.lua``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, takings: Sequence[Taking]) -> Shortage | None:
        with self._lock:
            now = self._clock() * 1_000
            full_at = {taking: self._after(taking, now) for taking in takings}
            waits = {taking: at - now - taking.milliseconds[0] for taking, at in full_at.items()}
            emptiest = max(takings, key=waits.__getitem__)
            if waits[emptiest] > 0:
                return Shortage(emptiest, waits[emptiest] / 1_000)
            for taking, at in full_at.items():
                self._keep(taking.bucket, at)
            return None

    def _after(self, taking: Taking, now: float) -> float:
        return max(self._full_at.get(taking.bucket, now), now) + taking.milliseconds[1]

    def _keep(self, bucket: str, full_at: float) -> None:
        self._full_at[bucket] = full_at
        self._full_at.move_to_end(bucket)
        if len(self._full_at) > MOST_BUCKETS:
            self._full_at.popitem(last=False)


class SharedBuckets:
    """Redis; while it is away, the memory of this process.

    Refusing everything then would let whoever stops Redis stop the site, and allowing everything
    would make that worth the trouble. So each process goes on with full buckets of its own.
    """

    def __init__(self, url: str) -> None:
        self._shared = RedisBuckets(url)
        self._own = MemoryBuckets()
        self._retry_at = 0.0

    def take(self, takings: Sequence[Taking]) -> Shortage | None:
        now = time.monotonic()
        if now < self._retry_at:
            return self._own.take(takings)
        if self._retry_at:
            # Other threads do not try as well.
            self._retry_at = now + RETRY_SECONDS
        try:
            shortage = self._shared.take(takings)
        except StoreUnavailable as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            logger.warning("this process alone counts for limits: %s", error)
            return self._own.take(takings)
        self._retry_at = 0.0
        return shortage


def open_buckets(redis_url: str | None) -> Buckets:
    """It connects when it is first used, so each worker process does so after the fork."""
    return SharedBuckets(redis_url) if redis_url else MemoryBuckets()
