"""Checks a browser's ticket: its signature, its session, and that it is used only once."""

from __future__ import annotations

import redis.asyncio

from bridge.protocol import Close, SocketRefused
from bus.errors import InvalidTicket, StoreUnavailable
from bus.rooms.coalesce import Coalescer
from bus.rooms.ended_sessions import TICKET_SECONDS, key_of
from bus.rooms.redis_client import answering
from bus.ticket import KeySet, Ticket

CLAIMS_AT_ONCE = 256
UNCHECKED = "tickets cannot be checked now"
LOGGED_OUT = "its login session has ended"


class TicketVerifier:
    """Redeems tickets, each once among all bridges."""

    def __init__(self, keys: KeySet, client: redis.asyncio.Redis) -> None:
        self._keys = keys
        self._client = client
        self._claims: Coalescer[Ticket, str | None] = Coalescer(self._claim, most=CLAIMS_AT_ONCE)

    async def redeem(self, token: str) -> Ticket:
        """The ticket in ``token``, which cannot be redeemed again. Raises SocketRefused."""
        try:
            ticket = self._keys.verify(token)
        except InvalidTicket as error:
            raise SocketRefused(Close.BAD_TICKET, str(error)) from error
        try:
            problem = await self._claims.call(ticket)
        except StoreUnavailable as error:
            raise SocketRefused(Close.TRY_LATER, UNCHECKED) from error
        if problem:
            raise SocketRefused(Close.BAD_TICKET, f"ticket refused: {problem}")
        return ticket

    async def _claim(self, tickets: list[Ticket]) -> list[str | None]:
        """For each ticket the reason to refuse it, or None."""
        pipeline = self._client.pipeline(transaction=False)
        for ticket in tickets:
            pipeline.set(f"ticket:{ticket.id}", 1, nx=True, ex=TICKET_SECONDS)
            pipeline.exists(key_of(ticket.session))
        async with answering():
            answers = await pipeline.execute()
        return [_problem(*pair) for pair in zip(answers[::2], answers[1::2], strict=True)]


def _problem(is_first: bool | None, has_ended: int) -> str | None:
    if not is_first:
        return "it was used before"
    return LOGGED_OUT if has_ended else None
