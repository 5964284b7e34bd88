"""The JSON API of invitations."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse, JsonResponse
from django.urls import reverse

from bus.events import format_time
from webapp.invitations import selectors, services
from webapp.invitations.models import Invitation
from webapp.project.api import ApiView, UserRequest, read_json
from webapp.rooms.api import room_json


class RoomInvitationsView(ApiView):
    def get(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        found = selectors.invitations_of_room(room_id, request.user)
        return JsonResponse(
            {"invitations": [_json(each) | {"email": each.email} for each in found]}
        )

    def post(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        page = request.build_absolute_uri(reverse("invitations:list"))
        services.invite(room_id, read_json(request).get("email"), actor=request.user, page=page)
        return JsonResponse({"status": "invited"}, status=202)


class RoomInvitationView(ApiView):
    def delete(
        self, request: UserRequest, room_id: uuid.UUID, invitation_id: uuid.UUID
    ) -> HttpResponse:
        services.revoke(room_id, invitation_id, actor=request.user)
        return HttpResponse(status=204)


class InvitationsView(ApiView):
    def get(self, request: UserRequest) -> HttpResponse:
        found = selectors.invitations_to(request.user)
        rooms = [{"room": {"id": str(each.room_id), "name": each.room.name}} for each in found]
        answers = [_json(each) | room for each, room in zip(found, rooms, strict=True)]
        return JsonResponse({"invitations": answers})


class AcceptView(ApiView):
    def post(self, request: UserRequest, invitation_id: uuid.UUID) -> HttpResponse:
        return JsonResponse(room_json(services.accept(invitation_id, request.user)))


class DeclineView(ApiView):
    def post(self, request: UserRequest, invitation_id: uuid.UUID) -> HttpResponse:
        services.decline(invitation_id, request.user)
        return HttpResponse(status=204)


def _json(invitation: Invitation) -> dict[str, Any]:
    inviter = invitation.inviter
    return {
        "id": str(invitation.id),
        "inviter": {"id": inviter.id, "name": inviter.display_name},
        "created_at": format_time(invitation.created_at),
        "expires_at": format_time(invitation.expires_at),
    }
