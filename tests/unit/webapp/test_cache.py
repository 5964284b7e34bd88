"""The cache that web processes share, with a Redis that goes away."""

from __future__ import annotations

import logging

import pytest

from tests.unit.webapp.conftest import Broker
from webapp.project.cache import SharedCache
from webapp.project.configuration import _cache


@pytest.fixture
def caches(broker: Broker) -> list[SharedCache]:
    """Those of two threads."""
    given = _cache(broker.other_database)
    return [SharedCache(given["LOCATION"], {"OPTIONS": dict(given["OPTIONS"])}) for _ in range(2)]


def test_they_count_together(caches: list[SharedCache]) -> None:
    one, other = caches
    one.set("a", [1.5, 2.5])
    assert other.get("a") == [1.5, 2.5]
    assert one.add("lock", True)
    assert not other.add("lock", True)
    other.delete("lock")
    assert one.get("lock") is None


def test_while_redis_is_away_the_process_counts_alone(
    caches: list[SharedCache], broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.stop()
    one, other = caches
    with caplog.at_level(logging.WARNING):
        one.set("a", 1)
        assert one.incr("a") == 2
    assert other.get("a") == 2
    assert "this process counts alone" in caplog.text
    broker.start()
    one.set("a", 5)
    assert other.get("a") == 5
