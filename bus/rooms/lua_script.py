"""Runs a Lua script in Redis many times in one round trip, by the script's digest
(https://redis.io/docs/latest/develop/programmability/eval-intro/#script-cache).

A call is the script's KEYS and ARGV. The answer to a call that Redis refused is the error, and
the calls after it run all the same. A server that does not know the script, because it has
restarted, is sent the script and then all calls again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

import hiredis
import redis
import redis.asyncio
from redis.exceptions import NoScriptError, ResponseError

Value = str | bytes | int | float
ScriptCall = tuple[Sequence[str], Sequence[Value]]
"""KEYS and ARGV."""


class _Source:
    """The text of a script file in this package, and its digest."""

    def __init__(self, file: str) -> None:
        self.text = files("bus.rooms").joinpath(file).read_text()
        self._digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def command(self, call: ScriptCall) -> tuple[Value, ...]:
        keys, arguments = call
        return ("EVALSHA", self._digest, len(keys), *keys, *arguments)


class LuaScript:
    """The script in ``file``, for any thread. It raises RedisError when Redis does not answer.

    It sends and reads by itself: redis-py's pipeline takes two to three times the processor time.
    """

    def __init__(self, client: redis.Redis, file: str) -> None:
        self._client = client
        self._source = _Source(file)

    def run(self, calls: Iterable[ScriptCall]) -> list[Any]:
        """Runs the script for each of ``calls``, in order; the answer to each."""
        commands = [hiredis.pack_command(self._source.command(call)) for call in calls]  # type: ignore[arg-type]
        answers = self._send(commands)
        if _is_unknown(answers):
            self._client.script_load(self._source.text)
            answers = self._send(commands)
        return answers

    def _send(self, commands: list[Any]) -> list[Any]:
        """Sends all ``commands``, then reads all answers."""
        pool = self._client.connection_pool
        connection: Any = pool.get_connection()
        try:
            connection.send_packed_command([b"".join(commands)])
            return [_answer(connection) for _ in commands]
        except BaseException:
            connection.disconnect()  # an answer left unread would be taken for the next one
            raise
        finally:
            pool.release(connection)


class AsyncLuaScript:
    """The script in ``file``, for one event loop. It raises RedisError when Redis does not answer.

    ``client`` comes from ``connect_async``; run it within ``answering``.
    """

    def __init__(self, client: redis.asyncio.Redis, file: str) -> None:
        self._client = client
        self._source = _Source(file)

    async def run(self, calls: Iterable[ScriptCall]) -> list[Any]:
        """Runs the script for each of ``calls``, in order; the answer to each."""
        commands = [self._source.command(call) for call in calls]
        answers = await self._send(commands)
        if _is_unknown(answers):
            await self._client.script_load(self._source.text)
            answers = await self._send(commands)
        return answers

    async def _send(self, commands: list[tuple[Value, ...]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers


def _is_unknown(answers: list[Any]) -> bool:
    """Whether the server did not know the script."""
    return any(isinstance(answer, NoScriptError) for answer in answers)


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
