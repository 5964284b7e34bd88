"""The bridge with real sockets and a real Redis: who is let in, who gets what."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
import redis
from websockets.exceptions import InvalidStatus

from bridge.limits import Limits
from bus.rooms.log_writer import RoomLogWriter
from bus.rooms.model import Position, keys_of
from tests.contract import chat
from tests.contract.chat import (
    KEYS,
    ORIGIN,
    Bridge,
    Browser,
    added,
    bodies,
    position,
    posted,
    removed,
    ticket,
)
from tests.support.wait import wait_until

ALICE, BOB = 1, 2


@pytest.fixture(scope="module")
def bridge(redis_url: str) -> Iterator[Bridge]:
    with Bridge(chat.settings(redis_url)) as bridge:
        yield bridge


@pytest.fixture(scope="module")
def writer(redis_url: str) -> Iterator[RoomLogWriter]:
    writer = RoomLogWriter.connect(redis_url)
    yield writer
    writer.close()


def test_health(bridge: Bridge) -> None:
    assert bridge.health("/health/live") == (200, "live\n")
    assert bridge.health() == (200, "ready\n")


class TestLettingIn:
    def test_a_ticket_opens_the_socket(self, bridge: Bridge) -> None:
        with Browser(bridge.url) as browser:
            ready = browser.authenticate(ALICE)
            assert ready["user"] == {"id": ALICE, "name": "user 1"}
            assert ready["refresh_in"] == 600

    @pytest.mark.parametrize("origin", ["http://evil.test", "null", ORIGIN + ".evil.test", None])
    def test_other_origins_are_refused(self, bridge: Bridge, origin: str | None) -> None:
        with pytest.raises(InvalidStatus) as refused:
            Browser(bridge.url, origin)
        assert refused.value.response.status_code == 403

    def test_a_ticket_is_good_once(self, bridge: Bridge) -> None:
        frame: dict[str, Any] = {"type": "authenticate", "ticket": ticket(ALICE, [])}
        with Browser(bridge.url) as first, Browser(bridge.url) as second:
            first.send(frame)
            first.expect("ready")
            second.send(frame)
            code, reason = second.close_code()
            assert code == 4401
            assert "used before" in reason

    def test_bad_tickets(self, bridge: Bridge) -> None:
        secret = KEYS.keys[0][1]
        good = jwt.decode(ticket(ALICE, []), secret, ["HS256"], audience="chatbus-bridge")
        now = time.time()
        for claims, key_id, key in (
            (good | {"exp": now - 1}, "test", secret),
            (good | {"aud": "another service"}, "test", secret),
            (good, "test", "not the secret, but of its length"),
            (good, "unknown", secret),
            (good | {"rooms": ["no id"]}, "test", secret),
            ({key: value for key, value in good.items() if key != "sid"}, "test", secret),
        ):
            with Browser(bridge.url) as browser:
                bad = jwt.encode(claims, key, "HS256", {"kid": key_id})
                browser.send({"type": "authenticate", "ticket": bad})
                assert browser.close_code()[0] == 4401

    def test_an_unsigned_ticket(self, bridge: Bridge) -> None:
        with Browser(bridge.url) as browser:
            bad = jwt.encode({"sub": "1"}, "", "none", {"kid": "test"})
            browser.send({"type": "authenticate", "ticket": bad})
            assert browser.close_code()[0] == 4401

    def test_nothing_goes_before_the_ticket(self, bridge: Bridge, room_id: uuid.UUID) -> None:
        with Browser(bridge.url) as browser:
            browser.send({"type": "subscribe", "room_id": str(room_id)})
            assert browser.close_code() == (4401, "the first frame must be “authenticate”")

    def test_deadlines(self, redis_url: str) -> None:
        limits = Limits(authenticate=0.3, refresh=0.6, silence=0.4)
        with Bridge(chat.settings(redis_url, limits=limits)) as bridge:
            with Browser(bridge.url) as nobody:
                assert nobody.close_code() == (4401, "no ticket came in time")
            with Browser(bridge.url) as silent:
                silent.authenticate(ALICE)
                assert silent.close_code() == (4408, "no frame within 0.4 s")
            with Browser(bridge.url) as stale:
                stale.authenticate(ALICE)
                pings = threading.Thread(target=_ping_until_closed, args=(stale,))
                pings.start()
                assert stale.close_code() == (4401, "no ticket came in time")
                pings.join()

    def test_a_fresh_ticket_keeps_the_socket_and_changes_the_rooms(
        self, bridge: Bridge, writer: RoomLogWriter
    ) -> None:
        kept, lost, new = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
        with bridge.browser(ALICE, kept, lost) as browser:
            browser.send({"type": "authenticate", "ticket": ticket(ALICE, [kept, new])})
            browser.expect("unsubscribed", room_id=str(lost), reason="removed")
            browser.expect("ready")
            assert browser.ask(lost)["code"] == "forbidden"
            browser.subscribe(new)
            writer.append([posted(lost, "lost"), posted(kept, "kept"), posted(new, "new")])
            assert sorted(browser.bodies(2)) == ["kept", "new"]
            browser.nothing_more()

    def test_another_users_ticket_ends_the_socket(self, bridge: Bridge) -> None:
        with bridge.browser(ALICE) as browser:
            browser.send({"type": "authenticate", "ticket": ticket(BOB, [])})
            assert browser.close_code() == (4401, "the ticket is for another user")


def _ping_until_closed(browser: Browser) -> None:
    while browser.socket.close_code is None:
        try:
            browser.send({"type": "ping"})
        except chat.ConnectionClosed:
            return
        threading.Event().wait(0.02)


class TestFrames:
    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            ("no JSON", "JSON is malformed"),
            ("[]", "Expected `object`, got `array`"),
            ("{}", "missing required field `type`"),
            ('{"type":"shout","room_id":"x"}', "Invalid value 'shout'"),
            ('{"type":"subscribe"}', "missing required field `room_id`"),
            ('{"type":"subscribe","room_id":"x"}', "Invalid UUID"),
            ('{"type":"ping","extra":1}', "unknown field `extra`"),
            ('{"type":"authenticate","ticket":7}', "Expected `str`, got `int`"),
            ('{"x":' + "[" * 50_000, "recursion"),
            (b'{"type":"ping"}', "a binary frame"),
        ],
    )
    def test_a_bad_frame_ends_the_socket_with_its_reason(
        self, bridge: Bridge, frame: str | bytes, reason: str
    ) -> None:
        with bridge.browser(ALICE) as browser:
            browser.send(frame)
            code, told = browser.close_code()
            assert code == 4400
            assert reason in told

    @pytest.mark.parametrize(
        "since",
        [{"epoch": "E", "offset": 1}, {"epoch": "e", "offset": -1}, {"epoch": "e"}, 7],
    )
    def test_a_bad_position(self, bridge: Bridge, room_id: uuid.UUID, since: Any) -> None:
        with bridge.browser(ALICE) as browser:
            browser.send({"type": "subscribe", "room_id": str(room_id), "since": since})
            assert browser.close_code()[0] == 4400

    @pytest.mark.parametrize(("size", "expected"), [(70_000, 4413), (300_000, 1009)])
    def test_a_frame_that_is_too_large(self, bridge: Bridge, size: int, expected: int) -> None:
        with bridge.browser(ALICE) as browser:
            browser.send({"type": "authenticate", "ticket": "x" * size})
            assert browser.close_code()[0] == expected

    def test_ping(self, bridge: Bridge) -> None:
        with bridge.browser(ALICE) as browser:
            browser.send({"type": "ping"})
            assert browser.receive() == {"type": "pong"}


class TestRooms:
    def test_an_event_reaches_the_members_that_subscribed_and_nobody_else(
        self, bridge: Bridge, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        other = uuid.uuid4()
        with (
            bridge.browser(ALICE, room_id) as alice,
            bridge.browser(BOB, room_id) as bob,
            bridge.browser(3, other) as stranger,
            bridge.browser(4) as idle,
        ):
            event = posted(room_id, "hi “there”")
            writer.append([event])
            for member in (alice, bob):
                frame = member.expect("event", room_id=str(room_id), offset=1)
                assert frame["event"]["id"] == str(event.id)
                assert bodies([frame]) == ["hi “there”"]
                member.nothing_more()
            stranger.nothing_more()
            idle.nothing_more()

    def test_who_is_not_on_the_ticket_is_not_let_in(
        self, bridge: Bridge, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        with bridge.browser(ALICE) as browser:
            error = browser.ask(room_id)
            assert (error["type"], error["code"]) == ("error", "forbidden")
            assert error["room_id"] == str(room_id)
            writer.append([posted(room_id)])
            browser.nothing_more()

    def test_unsubscribe(
        self, bridge: Bridge, writer: RoomLogWriter, redis_url: str, room_id: uuid.UUID
    ) -> None:
        with bridge.browser(ALICE, room_id) as browser:
            browser.send({"type": "unsubscribe", "room_id": str(room_id)})
            browser.expect("unsubscribed", room_id=str(room_id), reason="requested")
            with redis.Redis.from_url(redis_url) as client:
                channel = keys_of(room_id).channel
                wait_until(lambda: client.pubsub_numsub(channel)[0][1] == 0)
            writer.append([posted(room_id, "missed")])
            browser.nothing_more()
            assert bodies(browser.subscribe(room_id)["events"]) == ["missed"]

    def test_leaving_and_joining_at_once_misses_nothing(
        self, bridge: Bridge, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        with bridge.browser(ALICE, room_id) as browser:
            for n in range(50):
                browser.send({"type": "unsubscribe", "room_id": str(room_id)})
                browser.expect("unsubscribed")
                browser.subscribe(room_id)
                writer.append([posted(room_id, str(n))])
                assert browser.bodies(1) == [str(n)]

    def test_resume_whole(self, bridge: Bridge, writer: RoomLogWriter, room_id: uuid.UUID) -> None:
        writer.append([posted(room_id, str(n)) for n in range(5)])
        with bridge.browser(ALICE, room_id) as browser:
            writer.append([posted(room_id, "5")])
            last = position(browser.expect("event"))
        writer.append([posted(room_id, "6"), posted(room_id, "7")])
        with Browser(bridge.url) as again:
            again.authenticate(ALICE, room_id)
            subscribed = again.subscribe(room_id, last)
            assert subscribed["recovered"]
            assert bodies(subscribed["events"]) == ["6", "7"]
            assert subscribed["offset"] == 8

    def test_resume_from_a_lost_log_is_not_called_whole(
        self, bridge: Bridge, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        writer.append([posted(room_id, str(n)) for n in range(3)])
        with Browser(bridge.url) as browser:
            browser.authenticate(ALICE, room_id)
            subscribed = browser.subscribe(room_id, Position("0" * 16, 1))
            assert not subscribed["recovered"]
            assert bodies(subscribed["events"]) == ["0", "1", "2"]

    def test_joining_while_events_come_misses_and_doubles_nothing(
        self, bridge: Bridge, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        count, sockets = 2_000, 12
        # Each reads as it comes: one that waits for the others would be a slow reader.
        with bridge.browser(ALICE, room_id) as first, ThreadPoolExecutor(sockets + 1) as pool:
            readers = [(first, 0, pool.submit(first.bodies, count))]
            publisher = threading.Thread(
                target=lambda: [writer.append([posted(room_id, str(n))]) for n in range(count)]
            )
            publisher.start()
            for user_id in range(10, 10 + sockets):
                browser = Browser(bridge.url)
                browser.authenticate(user_id, room_id)
                offset = browser.subscribe(room_id)["offset"]
                readers.append((browser, offset, pool.submit(browser.bodies, count - offset)))
            assert publisher.is_alive(), "the joining did not fall into the stream"
            publisher.join()
            for browser, offset, reading in readers:
                assert reading.result() == [str(n) for n in range(offset, count)]
                browser.nothing_more()
                browser.socket.close()


class TestRemoval:
    def test_nothing_after_the_removal_reaches_the_user(
        self, bridge: Bridge, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        with (
            bridge.browser(ALICE, room_id) as alice,
            bridge.browser(BOB, room_id) as bob,
            bridge.browser(BOB, room_id) as bob_too,
        ):
            writer.append([posted(room_id, "1"), removed(room_id, BOB), posted(room_id, "2")])
            for gone in (bob, bob_too):
                assert gone.bodies(1) == ["1"]
                gone.expect("unsubscribed", room_id=str(room_id), reason="removed")
                gone.nothing_more()
                assert gone.ask(room_id)["code"] == "forbidden"
            assert alice.bodies(1) == ["1"]
            assert alice.expect("event")["event"]["type"] == "member.removed"
            assert alice.bodies(1) == ["2"]

    def test_a_message_that_looks_like_a_removal_is_none(
        self, bridge: Bridge, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        text = '"type":"member.removed","data":{"user":{"id":2,"name":"bob"}}'
        with bridge.browser(BOB, room_id) as bob:
            writer.append([posted(room_id, text)])
            assert bob.bodies(1) == [text]

    def test_a_ticket_from_before_the_removal_does_not_let_in(
        self, bridge: Bridge, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        writer.append([added(room_id, BOB), posted(room_id, "secret")])
        with Browser(bridge.url) as bob:
            bob.authenticate(BOB, room_id)
            writer.append([removed(room_id, BOB)])
            assert bob.ask(room_id)["code"] == "forbidden"
            writer.append([added(room_id, BOB)])
            bob.authenticate(BOB, room_id)
            bob.subscribe(room_id)

    def test_a_removal_among_racing_publishers(
        self, bridge: Bridge, redis_url: str, room_id: uuid.UUID
    ) -> None:
        """Whatever the log has after the removal never reaches the removed user."""
        with bridge.browser(ALICE, room_id) as alice, bridge.browser(BOB, room_id) as bob:
            start = threading.Barrier(5)

            def publish(events: list[Any]) -> None:
                writer = RoomLogWriter.connect(redis_url)
                start.wait()
                for event in events:
                    writer.append([event])
                writer.close()

            batches: list[list[Any]] = [[posted(room_id) for _ in range(100)] for _ in range(4)]
            batches.append([removed(room_id, BOB)])
            batches[-1][:0] = [posted(room_id) for _ in range(50)]
            threads = [threading.Thread(target=publish, args=(batch,)) for batch in batches]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            log = [alice.expect("event") for _ in range(451)]
            types = [frame["event"]["type"] for frame in log]
            before = types.index("member.removed")
            assert before < 450, "nothing was posted after the removal"
            assert [bob.expect("event") for _ in range(before)] == log[:before]
            bob.expect("unsubscribed", reason="removed")
            bob.nothing_more()
