"""Who is there and who is typing, across bridges; nothing of it for those who are not."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator

import pytest
import redis

from bus.rooms import presence
from bus.rooms.log_writer import RoomLogWriter
from bus.rooms.model import keys_of
from tests.contract import chat
from tests.contract.chat import Bridge, removed
from tests.support.wait import wait_until

ALICE, BOB, CAROL = 1, 2, 3


@pytest.fixture(scope="module")
def bridge(redis_url: str) -> Iterator[Bridge]:
    with Bridge(chat.settings(redis_url)) as bridge:
        yield bridge


@pytest.fixture(scope="module")
def other_bridge(redis_url: str) -> Iterator[Bridge]:
    with Bridge(chat.settings(redis_url)) as bridge:
        yield bridge


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def room_log(redis_client: redis.Redis) -> RoomLogWriter:
    return RoomLogWriter(redis_client)


class TestPresence:
    def test_who_comes_and_goes(
        self, bridge: Bridge, other_bridge: Bridge, room_id: uuid.UUID
    ) -> None:
        with bridge.browser(ALICE, room_id) as alice:
            alice.sees(ALICE)
            with other_bridge.browser(BOB, room_id) as bob:
                alice.sees(ALICE, BOB)
                bob.sees(ALICE, BOB)
                with bridge.browser(CAROL, room_id) as carol:
                    carol.sees(ALICE, BOB, CAROL)
                    alice.sees(ALICE, BOB, CAROL)
                alice.sees(ALICE, BOB)
            alice.sees(ALICE)

    def test_a_bridge_that_stops_leaves_nobody_behind(
        self,
        bridge: Bridge,
        redis_url: str,
        room_id: uuid.UUID,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # A bridge that left somebody behind would be taken for dead after that time.
        monkeypatch.setattr(presence, "LIFE_SECONDS", 600)
        with bridge.browser(ALICE, room_id) as alice:
            with (
                Bridge(chat.settings(redis_url)) as stopping,
                stopping.browser(BOB, room_id) as bob,
            ):
                alice.sees(ALICE, BOB)
                stopping.stop()
                assert bob.close_code()[0] == 1012
            alice.sees(ALICE)

    def test_a_frame_has_names_and_the_number(self, bridge: Bridge, room_id: uuid.UUID) -> None:
        with bridge.browser(ALICE, room_id) as alice:
            assert alice.aside("presence", lambda frame: True) == {
                "type": "presence",
                "room_id": str(room_id),
                "users": [{"id": ALICE, "name": f"user {ALICE}"}],
                "count": 1,
            }

    def test_somebody_with_several_sockets_counts_once(
        self, bridge: Bridge, other_bridge: Bridge, room_id: uuid.UUID
    ) -> None:
        with (
            bridge.browser(ALICE, room_id) as first,
            other_bridge.browser(ALICE, room_id) as second,
            bridge.browser(BOB, room_id),
        ):
            for browser in (first, second):
                browser.aside("presence", lambda frame: frame["count"] == 2)

    def test_a_long_list_is_cut_and_counted(
        self, bridge: Bridge, room_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(presence, "MOST_LISTED", 2)
        with (
            bridge.browser(ALICE, room_id) as alice,
            bridge.browser(BOB, room_id),
            bridge.browser(CAROL, room_id),
        ):
            frame = alice.aside("presence", lambda frame: frame["count"] == 3)
            assert [user["id"] for user in frame["users"]] == [ALICE, BOB]

    def test_what_a_crashed_bridge_left_goes_by_itself(
        self, bridge: Bridge, redis_client: redis.Redis, room_id: uuid.UUID
    ) -> None:
        entry = {
            "until": time.time() + 2,
            "count": 1,
            "users": [{"id": BOB, "name": "bob"}],
        }
        redis_client.hset(keys_of(room_id).present, "crashed", json.dumps(entry))
        with bridge.browser(ALICE, room_id) as alice:
            alice.sees(ALICE, BOB)
            # By the next refresh after it has run out: 8 s are the bound.
            alice.sees(ALICE)

    def test_nothing_is_left_when_all_have_gone(
        self, bridge: Bridge, redis_client: redis.Redis, room_id: uuid.UUID
    ) -> None:
        with bridge.browser(ALICE, room_id) as alice:
            alice.sees(ALICE)
            assert redis_client.exists(keys_of(room_id).present)
        wait_until(lambda: not redis_client.exists(keys_of(room_id).present), what="it is gone")

    def test_a_server_that_lost_everything_learns_it_again(
        self, bridge: Bridge, redis_client: redis.Redis, room_id: uuid.UUID
    ) -> None:
        with bridge.browser(ALICE, room_id) as alice:
            alice.sees(ALICE)
            redis_client.delete(keys_of(room_id).present, keys_of(room_id).told)
            redis_client.script_flush()
            alice.sees(ALICE)

    def test_who_was_removed_is_told_nothing_more(
        self, bridge: Bridge, room_log: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        with bridge.browser(ALICE, room_id) as alice, bridge.browser(BOB, room_id) as bob:
            alice.sees(ALICE, BOB)
            room_log.append([removed(room_id, BOB)])
            bob.expect("unsubscribed", reason="removed")
            bob.asides.clear()
            with bridge.browser(CAROL, room_id):
                alice.sees(ALICE, CAROL)
            bob.nothing_more()
            assert bob.asides == []


class TestTyping:
    def test_the_others_hear_of_it(
        self, bridge: Bridge, other_bridge: Bridge, room_id: uuid.UUID
    ) -> None:
        with bridge.browser(ALICE, room_id) as alice, other_bridge.browser(BOB, room_id) as bob:
            alice.send({"type": "typing", "room_id": str(room_id)})
            assert bob.aside("typing", lambda frame: True) == {
                "type": "typing",
                "room_id": str(room_id),
                "users": [{"id": ALICE, "name": f"user {ALICE}"}],
            }

    def test_many_keys_are_one_frame(self, bridge: Bridge, room_id: uuid.UUID) -> None:
        with bridge.browser(ALICE, room_id) as alice, bridge.browser(BOB, room_id) as bob:
            for _ in range(50):
                alice.send({"type": "typing", "room_id": str(room_id)})
            alice.nothing_more()
            bob.send({"type": "typing", "room_id": str(room_id)})
            bob.aside("typing", lambda frame: {"id": BOB, "name": "user 2"} in frame["users"])
            told = [frame for frame in alice.asides if frame["type"] == "typing"]
            assert len(told) <= 2

    def test_it_leaves_no_trace_in_the_log(
        self, bridge: Bridge, room_log: RoomLogWriter, room_id: uuid.UUID
    ) -> None:
        with bridge.browser(ALICE, room_id) as alice:
            alice.send({"type": "typing", "room_id": str(room_id)})
            alice.aside("typing", lambda frame: True)
            room_log.append([chat.posted(room_id)])
            assert alice.expect("event")["offset"] == 1

    def test_not_without_having_subscribed(self, bridge: Bridge, room_id: uuid.UUID) -> None:
        with bridge.browser(ALICE) as alice:
            alice.send({"type": "typing", "room_id": str(room_id)})
            alice.expect("error", code="forbidden", room_id=str(room_id))
