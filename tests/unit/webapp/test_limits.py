"""Limits: what is refused, by which count, and what holds while Redis is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import LazySettings

from bus.errors import SettingError
from bus.rooms.redis_client import connect
from bus.runtime.settings import Environment
from tests.support.freeze import frozen
from tests.unit.webapp.conftest import Broker, Browser
from webapp.limits import buckets as module
from webapp.limits import services
from webapp.limits.buckets import Buckets, MemoryBuckets, RedisBuckets, SharedBuckets, Taking
from webapp.limits.rates import LIMITS, Rate, rates_from

HOUR = 3_600


def one(bucket: str, count: int = 3, cost: int = 1, seconds: float = HOUR) -> Taking:
    return Taking(bucket, cost, count, seconds)


@pytest.fixture
def redis_url(broker: Broker) -> str:
    """Of a database with nothing counted."""
    with connect(broker.other_database) as client:
        client.flushdb()
    return broker.other_database


@pytest.fixture(params=["redis", "memory"])
def buckets(request: pytest.FixtureRequest) -> Buckets:
    if request.param == "memory":
        return MemoryBuckets()
    return RedisBuckets(request.getfixturevalue("redis_url"))


def test_a_bucket_gives_what_it_holds_and_says_when_it_has_more(buckets: Buckets) -> None:
    assert [buckets.take([one("a")]) for _ in range(3)] == [None] * 3
    shortage = buckets.take([one("a")])
    assert shortage
    assert shortage.taking == one("a")
    assert HOUR / 3 - 60 < shortage.seconds <= HOUR / 3
    assert buckets.take([one("b")]) is None


def test_a_bucket_fills_steadily(buckets: Buckets) -> None:
    quick = one("a", count=2, seconds=0.4)
    for _ in range(5):
        while shortage := buckets.take([quick]):
            assert 0 < shortage.seconds <= 0.2
            time.sleep(shortage.seconds)


def test_it_is_all_or_nothing(buckets: Buckets) -> None:
    assert buckets.take([one("small", count=2, cost=2)]) is None
    for _ in range(5):
        shortage = buckets.take([one("large"), one("small", count=2)])
        assert shortage
        assert shortage.taking.bucket == "small"
    assert [buckets.take([one("large")]) for _ in range(3)] == [None] * 3


def test_the_emptiest_bucket_says_when_to_try_again(buckets: Buckets) -> None:
    both = [one("hour", count=1), one("day", count=1, seconds=24 * HOUR)]
    assert buckets.take(both) is None
    shortage = buckets.take(both)
    assert shortage
    assert shortage.taking.bucket == "day"


def test_processes_count_together(redis_url: str) -> None:
    processes = [SharedBuckets(redis_url) for _ in range(4)]

    def take_50(process: Buckets) -> int:
        return sum(process.take([one("a", count=100)]) is None for _ in range(50))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take_50, processes)) == 100


def test_a_clock_that_was_set_back_locks_nobody_out_for_long(redis_url: str) -> None:
    buckets = RedisBuckets(redis_url)
    with connect(redis_url) as client:
        client.set(f"{module.PREFIX}a", f"{(time.time() + 10 * HOUR) * 1_000:.3f}")
    shortage = buckets.take([one("a")])
    assert shortage
    assert shortage.seconds <= HOUR / 3


def test_buckets_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BUCKETS", 10)
    buckets = MemoryBuckets()
    for number in range(100):
        buckets.take([one(str(number))])
    assert len(buckets._full_at) == 10


def test_while_redis_is_away_each_process_limits_alone(
    redis_url: str,
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    buckets = SharedBuckets(redis_url)
    assert [bool(buckets.take([one("a")])) for _ in range(4)] == [False, False, False, True]
    broker.stop()
    with caplog.at_level(logging.WARNING, module.__name__):
        assert [bool(buckets.take([one("a")])) for _ in range(4)] == [False, False, False, True]
    assert len(caplog.records) == 1, "it does not ask again for each request"
    broker.start()
    monkeypatch.setattr(buckets, "_retry_at", 1.0)
    assert [bool(buckets.take([one("b")])) for _ in range(4)] == [False, False, False, True]
    assert [bool(SharedBuckets(redis_url).take([one("b")]))] == [True], "they count together again"


def test_a_redis_that_stalls_delays_one_request(
    redis_url: str, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    buckets = SharedBuckets(redis_url)
    assert buckets.take([one("a")]) is None
    with frozen(broker.pid), caplog.at_level(logging.WARNING, module.__name__):
        answers = [bool(buckets.take([one("a")])) for _ in range(20)]
    assert answers == [False] * 3 + [True] * 17
    assert len(caplog.records) == 1


def rate(text: str, name: str = "messages") -> tuple[Rate, ...]:
    return rates_from(Environment({LIMITS[name].setting: text}))[name]


def test_rates_are_read() -> None:
    assert rate("5/s/person, 7/d/room") == (
        Rate(5, 1, "person"),
        Rate(7, 86_400, "room"),
    )
    assert rate("off") == ()
    assert rate("") == rate(LIMITS["messages"].default)


def test_on_a_machine_alone_no_address_is_limited() -> None:
    hosts = {f"{name}_HOST": "127.0.0.1" for name in ("WEB", "GATEWAY", "BRIDGE")}
    alone = rates_from(Environment(hosts))
    assert {each.scope for rates in alone.values() for each in rates} == {"person", "room"}
    assert "address" in {each.scope for each in rate("")}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("messages", "5", "has '5'; accepted is a list such as 200/m/person"),
        ("messages", "0/m/person", "has '0/m/person'"),
        ("messages", "5/w/person", "each COUNT/s|m|h|d/person|room|address, or off"),
        ("messages", "5/m/person,off", "has 'off'"),
        ("rooms", "5/m/room", "person|address"),
        ("message bytes", "15999/m/person", "accepted are 16000 and more"),
    ],
)
def test_a_bad_rate_is_refused(name: str, text: str, problem: str) -> None:
    with pytest.raises(SettingError) as refused:
        rate(text, name)
    assert LIMITS[name].setting in str(refused.value)
    assert problem in str(refused.value)


@pytest.fixture
def limit(settings: LazySettings) -> Callable[[str, str], None]:
    """Sets the rates of one limit, and turns the others off."""

    def set_rates(name: str, text: str) -> None:
        settings.LIMITS = dict.fromkeys(LIMITS, ()) | {name: rate(text, name)}

    return set_rates


def post(browser: Browser, path: str, body: str = "hi") -> int:
    return browser.send("POST", f"{path}/messages", {"body": body}).status_code


def test_too_many_messages_are_429_and_not_published(
    room: tuple[Browser, str], broker: Broker, limit: Callable[[str, str], None]
) -> None:
    limit("messages", "3/h/person")
    owner, path = room
    broker.taken()
    assert [post(owner, path) for _ in range(3)] == [202] * 3
    refused = owner.send("POST", f"{path}/messages", {"body": "hi"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_requests")
    assert refused.json()["error"]["message"].startswith("Too many messages by you")
    assert 1_100 < int(refused.headers["Retry-After"]) <= 1_200
    assert len(broker.taken()) == 3
    assert owner.send("GET", path).status_code == 200


def test_the_longest_messages_are_limited_by_their_bytes(room: tuple[Browser, str]) -> None:
    """By default: 31 of them at once, as many as one person may send in a minute."""
    owner, path = room
    answers = [post(owner, path, "😀" * 4_000) for _ in range(40)]
    assert answers[:31] == [202] * 31
    assert answers[-1] == 429
    assert post(owner, path, "a short one") == 202


def test_a_room_is_limited_by_what_its_members_post(
    browser: Callable[[str], Browser],
    room: tuple[Browser, str],
    limit: Callable[[str, str], None],
) -> None:
    limit("messages", "2/h/room")
    owner, path = room
    bob, mallory = browser("bob"), browser("mallory")
    bob.join(owner, path)
    assert [post(mallory, path) for _ in range(3)] == [403] * 3
    assert [post(owner, path, "\0") for _ in range(3)] == [400] * 3
    assert [post(owner, path), post(bob, path), post(bob, path)] == [202, 202, 429]


def test_people_at_one_address_are_limited_together(
    browser: Callable[[str], Browser], limit: Callable[[str, str], None]
) -> None:
    limit("tickets", "2/h/address")
    alice, bob = browser("alice"), browser("bob")
    for client in (alice, bob):
        client.defaults["REMOTE_ADDR"] = "2001:db8:1:2::" + str(client.user.id)
    answers = [each.send("POST", "/api/socket-ticket").status_code for each in (alice, bob, bob)]
    assert answers == [200, 200, 429]
    bob.defaults["REMOTE_ADDR"] = "2001:db8:1:3::1"
    assert bob.send("POST", "/api/socket-ticket").status_code == 200


def test_rooms_are_limited_in_the_api_and_on_the_page(
    browser: Callable[[str], Browser], limit: Callable[[str, str], None]
) -> None:
    limit("rooms", "1/h/person")
    alice = browser("alice")
    assert alice.send("POST", "/api/rooms", {"name": " "}).status_code == 400
    assert alice.send("POST", "/api/rooms", {"name": "Cellar"}).status_code == 201
    refused = [
        alice.send("POST", "/api/rooms", {"name": "Attic"}),
        alice.post("/rooms/", {"name": "Attic"}),
    ]
    assert [answer.status_code for answer in refused] == [429, 429]
    assert all(int(answer.headers["Retry-After"]) > 3_000 for answer in refused)
    assert "Too many rooms by you" in refused[1].content.decode()


def test_a_limited_request_asks_redis_once_and_others_never(
    room: tuple[Browser, str],
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    settings: LazySettings,
) -> None:
    owner, path = room
    monkeypatch.setattr(services, "buckets", RedisBuckets(redis_url))
    post(owner, path)  # Redis has the script now
    with connect(redis_url) as client:

        def commands(request: Callable[[], object]) -> int:
            client.config_resetstat()
            request()
            calls = client.info("commandstats")
            return calls.get("cmdstat_evalsha", {"calls": 0})["calls"]

        assert commands(lambda: post(owner, path)) == 1
        assert commands(lambda: owner.send("GET", path)) == 0
        settings.LIMITS = dict.fromkeys(LIMITS, ())
        assert commands(lambda: post(owner, path)) == 0


def test_threads_of_a_process_may_take_at_once() -> None:
    buckets, given, start = MemoryBuckets(), [], threading.Barrier(4)

    def take() -> None:
        start.wait()
        given.extend(buckets.take([one("a", count=100)]) is None for _ in range(50))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert given.count(True) == 100
