"""Request coalescing: calls made during a round trip form the next batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from bus.errors import StoreUnavailable

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class Coalescer(Generic[Ask, Answer]):
    """Serves many callers by few round trips: one at a time, of at most ``most`` asks.

    ``serve`` returns an answer to each ask, in order, or raises for all of them.
    """

    def __init__(
        self, serve: Callable[[list[Ask]], Awaitable[Sequence[Answer]]], *, most: int
    ) -> None:
        self._serve = serve
        self._most = most
        self._waiting: deque[tuple[Ask, asyncio.Future[Answer]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def call(self, ask: Ask) -> Answer:
        """The answer to ``ask``. Raises what ``serve`` raises."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve_all())
        return await future

    async def _serve_all(self) -> None:
        while self._waiting:
            count = min(self._most, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            # A caller that has given up needs no answer.
            await self._serve_batch([(ask, future) for ask, future in batch if not future.done()])

    async def _serve_batch(self, batch: list[tuple[Ask, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._serve([ask for ask, _ in batch])
        except Exception as error:  # noqa: BLE001 - raised in every caller
            for _, future in batch:
                if not future.done():
                    future.set_exception(_copy(error))
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


def _copy(error: Exception) -> Exception:
    """An exception for one caller: it collects the tracebacks of all that raise it."""
    copied = StoreUnavailable(str(error)) if isinstance(error, StoreUnavailable) else error
    copied.__cause__ = error.__cause__
    return copied
