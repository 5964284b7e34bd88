"""Letting a browser in: its ticket is good, and nobody has used it before."""

from __future__ import annotations

import redis.asyncio

from bridge.protocol import Close, Refused
from bus import ticket
from bus.errors import InvalidTicket, SinkUnavailable
from bus.room_log import answering
from bus.ticket import KeySet, Ticket

# Longer than a ticket lives by any clock that is roughly right.
_CLAIM_SECONDS = 2 * ticket.LIFETIME


class TicketDesk:
    """Takes tickets, each once, whichever bridge it comes to."""

    def __init__(self, keys: KeySet, client: redis.asyncio.Redis) -> None:
        self._keys = keys
        self._client = client

    async def take(self, token: str) -> Ticket:
        """The ticket in ``token``, used up by this. Raises Refused."""
        try:
            ticket = self._keys.verify(token)
        except InvalidTicket as error:
            raise Refused(Close.BAD_TICKET, str(error)) from error
        try:
            async with answering():
                first = await self._client.set(f"ticket:{ticket.id}", 1, nx=True, ex=_CLAIM_SECONDS)
        except SinkUnavailable as error:
            raise Refused(Close.TRY_LATER, "tickets cannot be checked now") from error
        if not first:
            raise Refused(Close.BAD_TICKET, "ticket refused: it was used before")
        return ticket
