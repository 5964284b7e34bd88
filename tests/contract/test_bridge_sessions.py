"""A log-out closes the sockets of its login session, also when Redis loses the announcement."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import pytest
import redis

from bus.errors import StoreUnavailable
from bus.rooms import ended_sessions
from bus.rooms.ended_sessions import EndedSession, SessionLogReader, end_session
from bus.rooms.redis_client import connect_async
from tests.contract import chat
from tests.contract.chat import Bridge, Browser
from tests.support.servers import Redis
from tests.support.wait import wait_until

ALICE, BOB = 1, 2
OVER = (4401, "its login session has ended")


@pytest.fixture(scope="module")
def bridge(redis_url: str) -> Iterator[Bridge]:
    with Bridge(chat.settings(redis_url)) as bridge:
        yield bridge


@pytest.fixture
def session() -> str:
    return uuid.uuid4().hex


def end_silently(redis_url: str, user_id: int, session: str) -> None:
    """As if what was published had been lost."""
    with redis.Redis.from_url(redis_url) as client:
        client.xadd(ended_sessions._LOG, {"user": user_id, "session": session})


def test_the_sockets_of_the_session_are_closed_and_no_others(
    bridge: Bridge, redis_url: str, session: str
) -> None:
    with (
        Browser(bridge.url) as first,
        Browser(bridge.url) as second,
        Browser(bridge.url) as elsewhere,
        Browser(bridge.url) as bob,
    ):
        first.authenticate(ALICE, session=session)
        second.authenticate(ALICE, session=session)
        elsewhere.authenticate(ALICE, session="another")
        bob.authenticate(BOB, session="bob's")
        end_session(redis_url, EndedSession(ALICE, session))
        assert first.close_code() == OVER
        assert second.close_code() == OVER
        elsewhere.nothing_more()
        bob.nothing_more()


def test_a_ticket_from_before_the_log_out_is_refused(
    bridge: Bridge, redis_url: str, session: str
) -> None:
    ticket = chat.ticket(ALICE, [], session=session)
    end_session(redis_url, EndedSession(ALICE, session))
    with Browser(bridge.url) as late:
        late.send({"type": "authenticate", "ticket": ticket})
        code, reason = late.close_code()
        assert code == 4401
        assert OVER[1] in reason


def test_a_bridge_that_was_not_told_reads_it(redis_url: str, session: str) -> None:
    with (
        Bridge(chat.settings(redis_url, verify_every=0.1)) as bridge,
        Browser(bridge.url) as alice,
    ):
        alice.authenticate(ALICE, session=session)
        end_silently(redis_url, ALICE, session)
        assert alice.close_code() == OVER


def test_a_connection_that_was_lost_meanwhile(redis_url: str, session: str) -> None:
    with (
        Bridge(chat.settings(redis_url)) as bridge,
        Browser(bridge.url) as alice,
        redis.Redis.from_url(redis_url) as client,
    ):
        alice.authenticate(ALICE, session=session)
        end_silently(redis_url, ALICE, session)
        alice.nothing_more()
        assert client.client_kill_filter(_type="pubsub") >= 1
        assert alice.close_code() == OVER


def test_rubbish_on_the_channel_closes_nothing(
    bridge: Bridge, redis_url: str, session: str
) -> None:
    with Browser(bridge.url) as alice, redis.Redis.from_url(redis_url) as client:
        alice.authenticate(ALICE, session=session)
        for rubbish in (b"", b"x", b"1 a b", b"\xff \xff"):
            # The test before has cut this bridge off, too.
            wait_until(lambda rubbish=rubbish: client.publish(ended_sessions.CHANNEL, rubbish))
        end_session(redis_url, EndedSession(BOB, "unknown"))
        alice.nothing_more()


def test_without_redis_a_log_out_is_a_retryable_error() -> None:
    with pytest.raises(StoreUnavailable):
        end_session("redis://127.0.0.1:1", EndedSession(ALICE, "s"))


class TestReader:
    def test_what_a_broken_reading_had_read_is_read_again(
        self, server: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = server.fresh_database()
        monkeypatch.setattr(ended_sessions, "PAGE", 2)
        for user_id in range(1, 6):
            end_silently(url, user_id, "s")
        pages: list[object] = []

        async def read() -> list[int]:
            async with connect_async(url) as client:
                read_page = client.xrange

                async def break_the_second(*arguments: object, **options: object) -> object:
                    pages.append(arguments)
                    if len(pages) == 2:
                        raise redis.ConnectionError("cut")
                    return await read_page(*arguments, **options)

                monkeypatch.setattr(client, "xrange", break_the_second)
                reader = SessionLogReader(client)
                with pytest.raises(StoreUnavailable):
                    await reader.read()
                ended = [ended.user_id for ended in await reader.read()]
                assert await reader.read() == []
                return ended

        assert asyncio.run(read()) == [1, 2, 3, 4, 5]

    def test_a_first_reading_that_finds_nothing_is_a_beginning_too(
        self, server: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A bridge that is cut off for minutes after it misses no log-out."""
        url = server.fresh_database()

        async def read() -> list[EndedSession]:
            async with connect_async(url) as client:
                reader = SessionLogReader(client)
                assert await reader.read() == []
                end_silently(url, ALICE, "s")
                # As if as much time had gone by as a first reading looks back.
                monkeypatch.setattr(ended_sessions, "TICKET_SECONDS", -60)
                return await reader.read()

        assert asyncio.run(read()) == [EndedSession(ALICE, "s")]
