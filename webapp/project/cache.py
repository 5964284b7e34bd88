"""The cache that all web processes share: counts for limits, nothing that must last."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache

logger = logging.getLogger(__name__)

# While Redis is away: 300 by Django's default, so few that a stranger could push a count out.
OWN_ENTRIES = 100_000
Result = TypeVar("Result")


class Json:
    """Values as JSON. Django's own way is pickles, which run whatever is written in them."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


class SharedCache(RedisCache):
    """Redis; while it is away, the memory of this process.

    A log-in needs no Redis, and limits hold meanwhile, for each process alone.
    """

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        # One for all threads, which each have an object of this class.
        self._own = LocMemCache("shared cache", {"OPTIONS": {"MAX_ENTRIES": OWN_ENTRIES}})

    def add(self, *args: Any, **options: Any) -> bool:
        return self._try("add", args, options)

    def get(self, *args: Any, **options: Any) -> Any:
        return self._try("get", args, options)

    def set(self, *args: Any, **options: Any) -> None:
        self._try("set", args, options)

    def delete(self, *args: Any, **options: Any) -> bool:
        return self._try("delete", args, options)

    def incr(self, *args: Any, **options: Any) -> int:
        return self._try("incr", args, options)

    def touch(self, *args: Any, **options: Any) -> bool:
        return self._try("touch", args, options)

    def _try(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        call: Callable[..., Any] = getattr(super(), name)
        try:
            return call(*args, **options)
        except redis.RedisError as error:
            logger.warning("Redis is away, this process counts alone: %s", error)
            return getattr(self._own, name)(*args, **options)
