"""The JSON API of rooms and their members."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse, JsonResponse

from webapp.project.api import (
    ApiView,
    UserRequest,
    compressed,
    read_json,
    read_limit,
    read_number,
    read_uuid,
)
from webapp.rooms import memberships, selectors, services
from webapp.rooms.models import Membership

MAX_USER_ID = 2**63 - 1


class RoomsView(ApiView):
    def get(self, request: UserRequest) -> HttpResponse:
        rooms = [room_json(membership) for membership in selectors.memberships_of(request.user)]
        return JsonResponse({"rooms": rooms})

    def post(self, request: UserRequest) -> HttpResponse:
        key = request.headers.get("Idempotency-Key")
        membership = services.create_room(request.user, read_json(request).get("name"), key)
        return JsonResponse(room_json(membership), status=201)


class PublicRoomsView(ApiView):
    def get(self, request: UserRequest) -> HttpResponse:
        """Public rooms: ``?query=<part of the name>&after=<room id>&limit=`` (1 to 200, or 50)."""
        limit = read_limit(request, default=50, maximum=200)
        query = request.GET.get("query", "")
        rooms, has_more = selectors.public_rooms_page(query, read_uuid(request, "after"), limit)
        found = [{"id": str(r.id), "name": r.name, "description": r.description} for r in rooms]
        return JsonResponse({"rooms": found, "has_more": has_more})


class JoinView(ApiView):
    def post(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        return JsonResponse(room_json(memberships.join_public(room_id, request.user)))


class RoomView(ApiView):
    def get(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        return JsonResponse(room_json(selectors.membership_of(request.user, room_id)))

    def patch(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        membership = services.change_room(room_id, read_json(request), actor=request.user)
        return JsonResponse(room_json(membership))

    def delete(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        services.delete_room(room_id, actor=request.user)
        return HttpResponse(status=204)


class MembersView(ApiView):
    @compressed
    def get(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        """Members by user id: ``?after=<user id>&limit=`` (1 to 200, 100 by default)."""
        selectors.membership_of(request.user, room_id)
        after = read_number(request, "after", 0, MAX_USER_ID) or 0
        limit = read_limit(request, default=100, maximum=200)
        members, has_more = selectors.members_page(room_id, after, limit)
        return JsonResponse(
            {"members": [_member(member) for member in members], "has_more": has_more}
        )


class MemberView(ApiView):
    def delete(self, request: UserRequest, room_id: uuid.UUID, user_id: int) -> HttpResponse:
        memberships.remove_member(room_id, min(user_id, MAX_USER_ID), actor=request.user)
        return HttpResponse(status=204)

    def patch(self, request: UserRequest, room_id: uuid.UUID, user_id: int) -> HttpResponse:
        role = read_json(request).get("role")
        member = memberships.change_role(
            room_id, min(user_id, MAX_USER_ID), role, actor=request.user
        )
        return JsonResponse(_member(member))


def room_json(membership: Membership) -> dict[str, Any]:
    room = membership.room
    return {
        "id": str(room.id),
        "name": room.name,
        "description": room.description,
        "public": room.is_public,
        "archived": room.archived_at is not None,
        "role": membership.role,
    }


def _member(membership: Membership) -> dict[str, Any]:
    user = membership.user
    return {"id": user.id, "name": user.display_name, "role": membership.role}
