"""Many callers, few calls."""

from __future__ import annotations

import asyncio

import pytest

from bus.errors import StoreUnavailable
from bus.rooms.coalesce import Coalescer


class Server:
    """Answers each ask with its double, when it is told to."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    async def serve(self, asks: list[int]) -> list[int]:
        self.calls.append(asks)
        await self.may_answer.wait()
        if self.error:
            raise self.error
        return [2 * ask for ask in asks]


def test_what_is_asked_meanwhile_goes_together() -> None:
    async def run() -> None:
        server = Server()
        coalescer = Coalescer(server.serve, most=3)
        tasks = [asyncio.create_task(coalescer.call(0))]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert server.calls == [[0]]
        tasks += [asyncio.create_task(coalescer.call(n)) for n in range(1, 6)]
        await asyncio.sleep(0)
        assert server.calls == [[0]]
        server.may_answer.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
        assert server.calls == [[0], [1, 2, 3], [4, 5]]
        assert await coalescer.call(7) == 14

    asyncio.run(run())


@pytest.mark.parametrize("error", [StoreUnavailable("away"), KeyError("a bug")])
def test_an_error_is_everybodys(error: Exception) -> None:
    async def run() -> None:
        server = Server()
        server.error = error
        server.may_answer.set()
        coalescer = Coalescer(server.serve, most=9)
        got = await asyncio.gather(*(coalescer.call(n) for n in range(3)), return_exceptions=True)
        assert [type(answer) for answer in got] == [type(error)] * 3
        assert [str(answer) for answer in got] == [str(error)] * 3
        server.error = None
        assert await coalescer.call(1) == 2

    asyncio.run(run())


def test_whoever_gives_up_is_not_asked_for() -> None:
    async def run() -> None:
        server = Server()
        coalescer = Coalescer(server.serve, most=9)
        first = asyncio.create_task(coalescer.call(1))
        await asyncio.sleep(0)
        second, third = (asyncio.create_task(coalescer.call(n)) for n in (2, 3))
        await asyncio.sleep(0)
        second.cancel()
        first.cancel()
        await asyncio.sleep(0)
        server.may_answer.set()
        assert await third == 6
        assert server.calls == [[1], [3]]

    asyncio.run(run())
