"""The pages: the list of the user's rooms, and one room."""

from __future__ import annotations

import uuid

from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views import View

from bus.events import MAX_BODY_CHARACTERS
from webapp.project.api import UserRequest, set_retry_after
from webapp.project.error_pages import error_answer
from webapp.project.errors import WebError
from webapp.rooms import selectors, services
from webapp.rooms.forms import CreateRoomForm


class RoomListPage(LoginRequiredMixin, View):
    def get(self, request: UserRequest) -> HttpResponse:
        return self._page(request, CreateRoomForm())

    def post(self, request: UserRequest) -> HttpResponse:
        form = CreateRoomForm(request.POST)
        if not form.is_valid():
            return self._page(request, form, status=400)
        try:
            membership = services.create_room(request.user, *form.name_and_key())
        except WebError as error:
            form.add_error("name", str(error))
            response = self._page(request, form, status=error.status)
            set_retry_after(response, error)
            return response
        return redirect("rooms:room", membership.room_id)

    def _page(self, request: UserRequest, form: CreateRoomForm, status: int = 200) -> HttpResponse:
        context = {"form": form, "memberships": selectors.memberships_of(request.user)}
        return render(request, "rooms/list.html", context, status=status)


class RoomPage(LoginRequiredMixin, View):
    def get(self, request: UserRequest, room_id: uuid.UUID) -> HttpResponse:
        try:
            membership = selectors.membership_of(request.user, room_id)
        except WebError as error:
            return error_answer(request, error)
        context = {
            "membership": membership,
            "memberships": selectors.memberships_of(request.user),
            "max_body": MAX_BODY_CHARACTERS,
        }
        return render(request, "rooms/room.html", context)
