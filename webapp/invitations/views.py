"""The JSON API of invitations."""

from __future__ import annotations

import uuid

from django.http import HttpResponse, JsonResponse

from webapp.invitations.services import invite
from webapp.project.api import ApiView, UserRequest, read_json


class InvitationsView(ApiView):
    def post(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        invite(room_id, read_json(request).get("email"), actor=request.user)
        return JsonResponse({"status": "invited"}, status=202)
