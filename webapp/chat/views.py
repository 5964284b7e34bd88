"""The JSON API of messages, and the socket ticket."""

from __future__ import annotations

import uuid

import msgspec
from django.conf import settings
from django.http import HttpResponse, JsonResponse

from bus.events import channel_of
from bus.rooms.model import Position
from bus.ticket import LIFETIME
from webapp.accounts import sessions
from webapp.chat.room_log import LARGEST_OFFSET, LONGEST_WAIT, as_json, read_log
from webapp.chat.services import post_message
from webapp.history.selectors import DEFAULT_LIMIT, MAX_LIMIT, Range, history_page
from webapp.limits.rates import TICKETS
from webapp.limits.services import spend
from webapp.project.api import (
    ApiView,
    UserRequest,
    compressed,
    read_json,
    read_limit,
    read_number,
    read_uuid,
)
from webapp.project.bridge import bridge_url
from webapp.project.errors import InvalidInput
from webapp.rooms.selectors import membership_of, room_ids_of


class MessagesView(ApiView):
    @compressed
    def get(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        membership_of(request.user, room_id)
        messages, has_more = history_page(room_id, _range(request))
        answer = msgspec.json.encode({"messages": messages, "has_more": has_more})
        return HttpResponse(answer, content_type="application/json")

    def post(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        """Answers 202 when the broker has the message; sockets and history follow."""
        body = read_json(request).get("body")
        event = post_message(request.user, room_id, body, request.headers.get("Idempotency-Key"))
        answer = {"id": str(event.id), "room_id": str(room_id), "at": event.at}
        return JsonResponse(answer, status=202)


def _range(request: UserRequest) -> Range:
    before, after = read_uuid(request, "before"), read_uuid(request, "after")
    if before and after:
        raise InvalidInput("Give “before” or “after”, not both.")
    return Range(before, after, read_limit(request, DEFAULT_LIMIT, MAX_LIMIT))


class LogView(ApiView):
    def get(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        """The events after a position, held until there is one, at most ``wait`` seconds."""
        membership_of(request.user, room_id)
        wait = read_number(request, "wait", 0, LONGEST_WAIT) or 0
        answer = read_log(room_id, _position(request), wait)
        # Not before the log was read: nobody gets what came after they were removed.
        sessions.check_alive(request)
        membership_of(request.user, room_id)
        response = HttpResponse(as_json(answer), content_type="application/json")
        if answer.retry_after:
            response["Retry-After"] = str(answer.retry_after)
        return response


def _position(request: UserRequest) -> Position | None:
    epoch = request.GET.get("epoch")
    offset = read_number(request, "offset", 0, LARGEST_OFFSET)
    if (epoch is None) != (offset is None):
        raise InvalidInput("Give “epoch” and “offset” together, or neither.")
    return None if epoch is None or offset is None else Position(epoch, offset)


class SocketTicketView(ApiView):
    def post(self, request: UserRequest) -> HttpResponse:
        spend({TICKETS: 1}, user=request.user)
        channel = channel_of(request.user.id)
        ticket = settings.TICKET_KEYS.sign(
            user_id=request.user.id,
            user_name=request.user.display_name,
            session=sessions.note(request),
            room_ids=[channel, *room_ids_of(request.user)],
        )
        answer = {
            "ticket": ticket,
            "url": bridge_url(request),
            "expires_in": LIFETIME,
            "channel": str(channel),
        }
        return JsonResponse(answer)
