"""Log-outs on their way to the bridges, with a Redis that goes away."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

import pytest
import redis
from django.utils import timezone

from bus.errors import StoreUnavailable
from tests.unit.webapp.conftest import Broker, Browser
from webapp.outbox import logouts, relay
from webapp.outbox.models import OutboxLogout


class Sweeps:
    """Lets the relay sweep so many times, or until no log-out waits."""

    def __init__(self, number: int) -> None:
        self._left = number

    def wait(self, seconds: float) -> bool:
        self._left -= 1
        return self._left < 0 or not OutboxLogout.objects.exists()


def told(url: str) -> list[int]:
    """Whose log-outs the bridges can read of."""
    with redis.Redis.from_url(url) as client:
        return [int(fields[b"user"]) for _, fields in client.xrange("{sessions}:ended")]


@pytest.fixture
def redis_url(broker: Broker, settings: object) -> str:
    settings.REDIS_URL = broker.other_database
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.flushdb()
    return settings.REDIS_URL


def test_a_log_out_is_told_at_once(browser: Callable[[str], Browser], redis_url: str) -> None:
    alice = browser("alice")
    assert alice.post("/accounts/logout/").status_code == 302
    assert told(redis_url) == [alice.user.id]
    assert not OutboxLogout.objects.exists()


def test_what_redis_did_not_take_the_relay_tells_once_it_is_back(
    browser: Callable[[str], Browser],
    redis_url: str,
    broker: Broker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    alice = browser("alice")
    broker.stop()
    with caplog.at_level(logging.WARNING):
        assert alice.post("/accounts/logout/").status_code == 302
    assert "sockets stay open for a while" in caplog.text
    assert alice.get("/api/rooms").status_code == 401
    assert OutboxLogout.objects.count() == 1

    OutboxLogout.objects.update(created_at=timezone.now() - timedelta(seconds=5))
    with pytest.raises(StoreUnavailable):
        logouts.publish_waiting()
    relay.run(Sweeps(2))
    assert OutboxLogout.objects.count() == 1
    broker.start()
    assert told(redis_url) == []
    relay.run(Sweeps(100))  # on a busy machine some may fail
    assert told(redis_url) == [alice.user.id]
    assert not OutboxLogout.objects.exists()


def test_the_relay_leaves_young_ones_to_their_requests(
    transactional_db: None, redis_url: str
) -> None:
    OutboxLogout.objects.create(user_id=1, session="s")
    logouts.publish_waiting()
    assert told(redis_url) == []


def test_without_redis_in_the_settings_nothing_is_noted(
    browser: Callable[[str], Browser], settings: object
) -> None:
    settings.REDIS_URL = None
    assert browser("alice").post("/accounts/logout/").status_code == 302
    assert not OutboxLogout.objects.exists()
    logouts.publish_waiting()
