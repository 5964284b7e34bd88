"""The bridge when Redis is cut off, killed, emptied or silent: no gap shown as whole, no leak."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from bus import events
from bus.errors import StoreUnavailable
from bus.events import Event
from bus.rooms.log_writer import RoomLogWriter
from bus.rooms.model import keys_of
from tests.contract import chat
from tests.contract.chat import Bridge, Browser, added, bodies, position, posted, removed
from tests.contract.test_room_log import restore, saved
from tests.support.ports import is_open
from tests.support.proxy import Proxy
from tests.support.servers import Redis
from tests.support.wait import wait_until

ALICE, BOB = 1, 2


@pytest.fixture
def bridge(server: Redis) -> Iterator[Bridge]:
    with Bridge(chat.settings(server.url)) as bridge:
        yield bridge


def append_unpublished(client: redis.Redis, event: Event) -> None:
    """Appends as the writer does, but the message to the bridges is lost."""
    keys = keys_of(event.room_id)
    offset = client.hincrby(keys.meta, "offset", 1)
    client.xadd(keys.log, {"event": events.encode(event)}, id=f"{offset}-0")


def test_a_killed_connection_leaves_no_gap(
    bridge: Bridge, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    with bridge.browser(ALICE, room_id) as alice, bridge.browser(BOB, room_id) as bob:
        for n in range(5):
            writer.append([posted(room_id, f"{n} before")])
            assert client.client_kill_filter(_type="pubsub") == 1
            writer.append([posted(room_id, f"{n} missed"), posted(room_id, f"{n} also missed")])
            expected = [f"{n} before", f"{n} missed", f"{n} also missed"]
            assert alice.bodies(3) == expected
            assert bob.bodies(3) == expected
            wait_until(lambda: bridge.health()[0] == 200)
        alice.nothing_more()


def test_a_removal_during_the_cut_comes_before_what_follows_it(
    bridge: Bridge, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    with bridge.browser(ALICE, room_id) as alice, bridge.browser(BOB, room_id) as bob:
        assert client.client_kill_filter(_type="pubsub") == 1
        writer.append([posted(room_id, "1"), removed(room_id, BOB), posted(room_id, "2")])
        assert bob.bodies(1) == ["1"]
        bob.expect("unsubscribed", reason="removed")
        assert alice.bodies(1) == ["1"]
        assert alice.expect("event")["event"]["type"] == "member.removed"
        assert alice.bodies(1) == ["2"]
        bob.nothing_more()


def test_a_lost_message_is_made_up_for_by_the_next(
    bridge: Bridge, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    with bridge.browser(ALICE, room_id) as alice, bridge.browser(BOB, room_id) as bob:
        append_unpublished(client, posted(room_id, "lost"))
        append_unpublished(client, removed(room_id, BOB))
        alice.nothing_more()
        writer.append([posted(room_id, "next")])
        assert alice.bodies(1) == ["lost"]
        assert alice.expect("event")["event"]["type"] == "member.removed"
        assert alice.bodies(1) == ["next"]
        assert bob.bodies(1) == ["lost"]
        bob.expect("unsubscribed", reason="removed")
        bob.nothing_more()


def test_a_lost_last_message_is_found_by_the_verification(
    server: Redis, client: redis.Redis, room_id: uuid.UUID
) -> None:
    with (
        Bridge(chat.settings(server.url, verify_every=0.1)) as bridge,
        bridge.browser(ALICE, room_id) as alice,
    ):
        append_unpublished(client, posted(room_id, "lost"))
        assert alice.bodies(1) == ["lost"]


def test_a_failover_that_took_events_back_sends_everybody_for_a_fresh_ticket(
    server: Redis, bridge: Bridge, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    """The writer that takes over has not seen them, so it uses their offsets again."""
    with bridge.browser(ALICE, room_id) as alice:
        writer.append([posted(room_id, "kept")])
        replica = saved(client, room_id)
        writer.append([posted(room_id, "lost"), posted(room_id, "lost, too")])
        assert alice.bodies(3) == ["kept", "lost", "lost, too"]
        restore(client, replica)
        assert client.client_kill_filter(_type="pubsub") == 1
        alice.expect("unsubscribed", reason="resync")
        with closing(RoomLogWriter.connect(server.url)) as standby:
            standby.append([posted(room_id, "new")])
        alice.authenticate(ALICE, room_id)
        answer = alice.subscribe(room_id)
        assert bodies(answer["events"]) == ["kept", "new"]


def test_rubbish_on_the_channel_changes_nothing(
    bridge: Bridge, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    with bridge.browser(ALICE, room_id) as alice:
        for rubbish in ("", "x", "epoch many {}", "!", "!x {}", "!presence {}", "!typing \x00"):
            assert client.publish(keys_of(room_id).channel, rubbish) == 1
        writer.append([posted(room_id, "event")])
        assert alice.bodies(1) == ["event"]


def test_a_killed_server_comes_back_without_a_gap(
    server: Redis, bridge: Bridge, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    other = uuid.uuid4()
    with Browser(bridge.url) as alice:
        alice.authenticate(ALICE, room_id, other)
        alice.subscribe(room_id)
        writer.append([posted(room_id, "before")])
        assert alice.bodies(1) == ["before"]
        server.kill()
        try:
            with pytest.raises(StoreUnavailable):
                writer.append([posted(room_id, "refused")])
            wait_until(lambda: bridge.health() == (503, "not listening to Redis\n"))
            assert bridge.health("/health/live")[0] == 200
            error = alice.ask(other)
            assert (error["type"], error["code"]) == ("error", "unavailable")
            with Browser(bridge.url) as late:
                late.send({"type": "authenticate", "ticket": chat.ticket(BOB, [])})
                assert late.close_code()[0] == 1013
        finally:
            server.start()
        writer.append([posted(room_id, "after"), posted(other, "other")])
        assert alice.bodies(1) == ["after"]
        wait_until(lambda: bridge.health()[0] == 200)
        assert bodies(alice.subscribe(other)["events"]) == ["other"]


def test_a_bridge_starts_without_redis_and_finds_it_later(server: Redis) -> None:
    server.kill()
    with Bridge(chat.settings(server.url), wait=False) as bridge:
        try:
            wait_until(lambda: is_open(bridge.port))
            assert bridge.health("/health/live")[0] == 200
            assert bridge.health()[0] == 503
        finally:
            server.start()
        wait_until(lambda: bridge.health()[0] == 200)


class TestEmptied:
    """FLUSHALL: the log is another one, and removals may be forgotten."""

    def test_everybody_needs_a_fresh_ticket(
        self, bridge: Bridge, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        with bridge.browser(ALICE, room_id) as alice:
            writer.append([posted(room_id, "before")])
            last = position(alice.expect("event"))
            client.flushall()
            writer.append([posted(room_id, "after")])
            alice.expect("unsubscribed", room_id=str(room_id), reason="resync")
            assert alice.ask(room_id)["code"] == "forbidden"
            alice.authenticate(ALICE, room_id)
            subscribed = alice.subscribe(room_id, last)
            assert not subscribed["recovered"]
            assert bodies(subscribed["events"]) == ["after"]
            writer.append([posted(room_id, "live")])
            assert alice.bodies(1) == ["live"]

    def test_a_forgotten_removal_lets_nobody_in(
        self, bridge: Bridge, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        writer.append([added(room_id, BOB)])
        with Browser(bridge.url) as bob:
            bob.authenticate(BOB, room_id)
            writer.append([removed(room_id, BOB)])
            client.flushall()
            answer = bob.ask(room_id)
            assert (answer["type"], answer["reason"]) == ("unsubscribed", "resync")
            writer.append([posted(room_id, "secret")])
            bob.nothing_more()
            assert bob.ask(room_id)["code"] == "forbidden"

    def test_a_removal_that_was_lost_with_the_log_leaks_nothing(
        self, bridge: Bridge, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        with bridge.browser(BOB, room_id) as bob:
            append_unpublished(client, removed(room_id, BOB))
            client.flushall()
            writer.append([posted(room_id, "secret")])
            bob.expect("unsubscribed", reason="resync")
            bob.nothing_more()

    def test_a_quiet_room_notices(
        self, server: Redis, client: redis.Redis, room_id: uuid.UUID
    ) -> None:
        with (
            Bridge(chat.settings(server.url, verify_every=0.1)) as bridge,
            bridge.browser(ALICE, room_id) as alice,
        ):
            client.flushall()
            alice.expect("unsubscribed", reason="resync")

    def test_a_new_room_needs_no_fresh_ticket(self, bridge: Bridge, room_id: uuid.UUID) -> None:
        with Browser(bridge.url) as alice:
            alice.authenticate(ALICE, room_id)
            assert alice.subscribe(room_id)["offset"] == 0


def test_too_much_missed_is_not_shown_as_whole(
    bridge: Bridge, client: redis.Redis, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    with bridge.browser(ALICE, room_id) as alice:
        for n in range(600):
            append_unpublished(client, posted(room_id, str(n)))
        writer.append([posted(room_id, "600")])
        alice.expect("unsubscribed", reason="resync")
        alice.authenticate(ALICE, room_id)
        subscribed = alice.subscribe(room_id)
        assert bodies(subscribed["events"])[-1] == "600"


def test_a_link_that_swallows_everything_is_noticed(
    server: Redis, writer: RoomLogWriter, room_id: uuid.UUID, caplog: pytest.LogCaptureFixture
) -> None:
    with Proxy(server.port) as proxy:
        url = server.url.replace(f":{server.port}", f":{proxy.port}")
        with Bridge(chat.settings(url)) as bridge, bridge.browser(ALICE, room_id) as alice:
            proxy.black_hole()
            writer.append([posted(room_id, str(n)) for n in range(3)])
            wait_until(lambda: proxy.held)
            with pytest.raises(TimeoutError):
                alice.receive(timeout=0.5)
            wait_until(lambda: bridge.health()[0] == 503)
            assert "nothing arrived for 1 s" in caplog.text
            proxy.forward()
            assert alice.bodies(3) == ["0", "1", "2"]
            wait_until(lambda: bridge.health()[0] == 200)
            alice.nothing_more()
