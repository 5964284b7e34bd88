"""The JSON API of links that let into a room."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse, JsonResponse
from django.urls import reverse

from bus.events import format_time
from webapp.invitations import links
from webapp.invitations.models import InvitationLink
from webapp.project.api import ApiView, UserRequest, read_json
from webapp.rooms.api import room_json


class LinksView(ApiView):
    def get(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        found = links.links_of_room(room_id, request.user)
        return JsonResponse({"links": [_json(link) for link in found]})

    def post(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        wanted = read_json(request)
        link, token = links.make_link(
            room_id,
            actor=request.user,
            days=wanted.get("days", links.DEFAULT_DAYS),
            uses=wanted.get("uses", links.DEFAULT_USES),
        )
        url = request.build_absolute_uri(reverse("invitations:link", args=[token]))
        return JsonResponse(_json(link) | {"token": token, "url": url}, status=201)


class LinkView(ApiView):
    def delete(self, request: UserRequest, room_id: uuid.UUID, link_id: uuid.UUID) -> HttpResponse:
        links.revoke_link(room_id, link_id, actor=request.user)
        return HttpResponse(status=204)


class LinkTargetView(ApiView):
    """Where a link leads, before it is accepted."""

    def get(self, request: UserRequest, token: str) -> HttpResponse:
        link = links.link_of(token)
        room = {"id": str(link.room_id), "name": link.room.name}
        return JsonResponse(_json(link) | {"room": room})


class AcceptLinkView(ApiView):
    def post(self, request: UserRequest, token: str) -> HttpResponse:
        return JsonResponse(room_json(links.accept_link(token, request.user)))


def _json(link: InvitationLink) -> dict[str, Any]:
    return {
        "id": str(link.id),
        "inviter": {"id": link.inviter.id, "name": link.inviter.display_name},
        "uses_left": link.uses_left,
        "created_at": format_time(link.created_at),
        "expires_at": format_time(link.expires_at),
    }
