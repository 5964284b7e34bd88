"""The page of the invitations to the user, and what its buttons do."""

from __future__ import annotations

import uuid

from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views import View

from webapp.invitations import links, selectors, services
from webapp.project.api import UserRequest
from webapp.project.error_pages import error_answer
from webapp.project.errors import WebError


class InvitationsPage(LoginRequiredMixin, View):
    def get(self, request: UserRequest) -> HttpResponse:
        context = {"invitations": selectors.invitations_to(request.user)}
        return render(request, "invitations/list.html", context)


class LinkPage(LoginRequiredMixin, View):
    """What a link of an invitation opens: it asks before it lets in."""

    def get(self, request: UserRequest, token: str) -> HttpResponse:
        try:
            context = {"link": links.link_of(token)}
        except WebError as error:
            return error_answer(request, error)
        return render(request, "invitations/link.html", context)

    def post(self, request: UserRequest, token: str) -> HttpResponse:
        try:
            membership = links.accept_link(token, request.user)
        except WebError as error:
            return error_answer(request, error)
        return redirect("rooms:room", membership.room_id)


class AcceptPage(LoginRequiredMixin, View):
    def post(self, request: UserRequest, invitation_id: uuid.UUID) -> HttpResponse:
        try:
            membership = services.accept(invitation_id, request.user)
        except WebError as error:
            return error_answer(request, error)
        return redirect("rooms:room", membership.room_id)


class DeclinePage(LoginRequiredMixin, View):
    def post(self, request: UserRequest, invitation_id: uuid.UUID) -> HttpResponse:
        try:
            services.decline(invitation_id, request.user)
        except WebError as error:
            return error_answer(request, error)
        return redirect("invitations:list")
