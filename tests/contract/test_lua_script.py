"""The two runners of Lua scripts: many calls in one round trip, on any server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from bus.rooms.lua_script import AsyncLuaScript, LuaScript, ScriptCall
from bus.rooms.redis_client import connect_async
from tests.support.servers import Redis

Run = Callable[[Sequence[ScriptCall]], list[Any]]
BRIDGE = "bridge-1"


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest, server: Redis, client: redis.Redis) -> Run:
    """Runs presence.lua, which answers how many users are in a room."""

    async def run_async(calls: Sequence[ScriptCall]) -> list[Any]:
        async with connect_async(server.url) as async_client:
            return await AsyncLuaScript(async_client, "presence.lua").run(calls)

    if request.param == "sync":
        return LuaScript(client, "presence.lua").run
    return lambda calls: asyncio.run(run_async(calls))


def present(room: str, users: str = "[]", count: int = 0) -> ScriptCall:
    return (f"{room}:present", f"{room}:told"), (room, BRIDGE, 20, 100, 0, count, users)


def one_user(room: str) -> ScriptCall:
    return present(room, '[{"id":1,"name":"alice"}]', 1)


def test_each_call_gets_its_answer_in_order(run: Run) -> None:
    rooms = [uuid.uuid4().hex for _ in range(3)]
    assert run([one_user(rooms[0]), present(rooms[1]), one_user(rooms[2])]) == [1, 0, 1]


def test_a_refused_call_keeps_no_other_from_running(run: Run, client: redis.Redis) -> None:
    broken, room = uuid.uuid4().hex, uuid.uuid4().hex
    client.set(f"{broken}:present", "not a hash")
    refusal, answer = run([one_user(broken), one_user(room)])
    assert isinstance(refusal, redis.ResponseError)
    assert "WRONGTYPE" in str(refusal)
    assert answer == 1


def test_a_server_that_lost_the_script_is_sent_it(run: Run, client: redis.Redis) -> None:
    room = uuid.uuid4().hex
    assert run([one_user(room)]) == [1]
    client.script_flush()
    assert run([one_user(room), present(room)]) == [1, 0]
