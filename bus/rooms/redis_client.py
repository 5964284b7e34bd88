"""Connections to the Redis that holds the rooms: the only place with their options.

No client retries by itself, because its caller decides how long to wait for Redis. All speak
RESP2: the bridge's ``PubSub`` parses that protocol's messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from bus.errors import StoreUnavailable
from bus.runtime.redis_cluster import CLUSTER_ERRORS, cluster_problem

ANSWER_SECONDS = 5.0
_OPTIONS: dict[str, Any] = {"protocol": 2, "socket_connect_timeout": 2.0}


def connect(url: str, timeout: float = ANSWER_SECONDS) -> redis.Redis:
    """A client for ``redis_errors``, which waits ``timeout`` seconds for each answer.

    It connects when it is first used.
    """
    retry = Retry(NoBackoff(), 0)
    client: redis.Redis = redis.Redis.from_url(url, socket_timeout=timeout, retry=retry, **_OPTIONS)
    return client


def connect_async(url: str) -> redis.asyncio.Redis:
    """A client for ``answering``, which bounds the wait. It connects when it is first used.

    It repeats a command once, at once: a restart of Redis ends the connections in the pool.
    """
    # redis-py's own socket_timeout rests on asyncio.wait_for, which before Python 3.12 may lose
    # a cancellation.
    retry = redis.asyncio.retry.Retry(NoBackoff(), 1)
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
        url, socket_timeout=None, retry=retry, **_OPTIONS
    )
    return client


def unavailable(error: RedisError) -> StoreUnavailable:
    """The error for what Redis answered, in words."""
    if isinstance(error, CLUSTER_ERRORS):
        return StoreUnavailable(f"Redis: {cluster_problem('REDIS_URL', error)}")
    return StoreUnavailable(f"Redis: {error}")


@contextmanager
def redis_errors() -> Iterator[None]:
    """Raises StoreUnavailable when Redis fails in the block."""
    try:
        yield
    except RedisError as error:
        raise unavailable(error) from error


@asynccontextmanager
async def answering(seconds: float = ANSWER_SECONDS) -> AsyncIterator[None]:
    """Raises StoreUnavailable when Redis fails in the block, or the block exceeds ``seconds``."""
    try:
        with redis_errors():
            async with asyncio.timeout(seconds):
                yield
    except TimeoutError as error:
        raise StoreUnavailable(f"Redis: no answer within {seconds:g} s") from error
