"""Letting a browser in: its ticket is good, and nobody has used it before."""

from __future__ import annotations

import redis.asyncio

from bridge.protocol import Close, Refused
from bus import ticket
from bus.errors import InvalidTicket, SinkUnavailable
from bus.room_reader import answering
from bus.ticket import KeySet, Ticket
from bus.together import Together

# Longer than a ticket lives by any clock that is roughly right.
_CLAIM_SECONDS = 2 * ticket.LIFETIME
CLAIMS_AT_ONCE = 256


class TicketDesk:
    """Takes tickets, each once, whichever bridge it comes to."""

    def __init__(self, keys: KeySet, client: redis.asyncio.Redis) -> None:
        self._keys = keys
        self._client = client
        self._claims: Together[str, bool] = Together(self._claim, most=CLAIMS_AT_ONCE)

    async def take(self, token: str) -> Ticket:
        """The ticket in ``token``, used up by this. Raises Refused."""
        try:
            ticket = self._keys.verify(token)
        except InvalidTicket as error:
            raise Refused(Close.BAD_TICKET, str(error)) from error
        try:
            is_first = await self._claims.ask(ticket.id)
        except SinkUnavailable as error:
            raise Refused(Close.TRY_LATER, "tickets cannot be checked now") from error
        if not is_first:
            raise Refused(Close.BAD_TICKET, "ticket refused: it was used before")
        return ticket

    async def _claim(self, ids: list[str]) -> list[bool]:
        """Of each ticket, whether this is the first time that it is claimed."""
        pipeline = self._client.pipeline(transaction=False)
        for ticket_id in ids:
            pipeline.set(f"ticket:{ticket_id}", 1, nx=True, ex=_CLAIM_SECONDS)
        async with answering():
            return [bool(is_first) for is_first in await pipeline.execute()]
