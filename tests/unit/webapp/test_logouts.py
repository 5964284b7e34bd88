"""Log-outs on their way to the bridges, with a Redis that goes away."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

import pytest
import redis
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.utils import timezone

from bus.errors import StoreUnavailable
from tests.unit.webapp.conftest import PASSWORD, Broker, Browser
from webapp.accounts.models import User
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


def ended(url: str) -> set[str]:
    """The sessions whose ends the bridges can read of, as tickets name them."""
    with redis.Redis.from_url(url) as client:
        return {fields[b"session"].decode() for _, fields in client.xrange("{sessions}:ended")}


def with_ticket(user: User) -> Browser:
    """Another browser of ``user``; ``session`` is how its ticket names its session."""
    browser = Browser(user)
    ticket = browser.send("POST", "/api/socket-ticket").json()["ticket"]
    browser.session_name = settings.TICKET_KEYS.verify(ticket).session
    return browser


@pytest.fixture
def three(browser: Callable[[str], Browser], redis_url: str) -> tuple[Browser, Browser, Browser]:
    """Two browsers of Alice and one of Bob, all with sockets."""
    alice, bob = browser("alice").user, browser("bob").user
    return with_ticket(alice), with_ticket(alice), with_ticket(bob)


Three = tuple[Browser, Browser, Browser]


def is_in(browser: Browser) -> bool:
    return browser.get("/rooms/").status_code == 200


def test_a_new_password_ends_the_other_sessions_and_their_sockets(
    three: Three, redis_url: str
) -> None:
    here, there, other = three
    new = {"password1": "another horse staple", "password2": "another horse staple"}
    assert here.post("/accounts/password/", {"oldpassword": PASSWORD} | new).status_code == 302
    assert is_in(here)
    assert not is_in(there)
    assert is_in(other)
    assert there.session_name in ended(redis_url)
    assert other.session_name not in ended(redis_url)


def test_a_session_is_ended_from_another_one_with_its_sockets(three: Three, redis_url: str) -> None:
    here, there, other = three
    sessions = UserSession.objects.in_bulk(field_name="session_key")
    page = here.get("/accounts/sessions/").content.decode()
    assert page.count("Log out there") == 1
    for browser in (other, here):
        number = sessions[browser.session.session_key].id
        here.post("/accounts/sessions/", {"session": number})
    assert ended(redis_url) == set()
    here.post("/accounts/sessions/", {"session": sessions[there.session.session_key].id})
    assert [is_in(browser) for browser in three] == [True, False, True]
    assert ended(redis_url) == {there.session_name}


def test_all_other_sessions_are_ended_at_once(three: Three, redis_url: str) -> None:
    here, there, _ = three
    here.post("/accounts/sessions/")
    assert [is_in(browser) for browser in three] == [True, False, True]
    assert ended(redis_url) == {there.session_name}


def test_a_deactivated_user_loses_every_socket(three: Three, redis_url: str) -> None:
    here, there, _ = three
    here.user.is_active = False
    here.user.save()
    assert [is_in(browser) for browser in three] == [False, False, True]
    assert ended(redis_url) == {here.session_name, there.session_name}


def test_without_redis_the_ends_of_all_sessions_wait(three: Three, broker: Broker) -> None:
    broker.stop()
    here, there, _ = three
    here.user.is_active = False
    here.user.save()
    assert not is_in(there)
    assert OutboxLogout.objects.count() == 2


def test_without_redis_in_the_settings_nothing_is_noted(
    browser: Callable[[str], Browser], settings: object
) -> None:
    settings.REDIS_URL = None
    assert browser("alice").post("/accounts/logout/").status_code == 302
    assert not OutboxLogout.objects.exists()
    logouts.publish_waiting()
