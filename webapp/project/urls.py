"""The URLs of the web tier."""

from __future__ import annotations

from django.urls import include, path, re_path
from django.views.generic import RedirectView

from webapp.chat.views import LogView, MessagesView, SocketTicketView
from webapp.invitations.link_views import AcceptLinkView, LinksView, LinkTargetView, LinkView
from webapp.invitations.views import (
    AcceptView,
    DeclineView,
    InvitationsView,
    RoomInvitationsView,
    RoomInvitationView,
)
from webapp.project import health
from webapp.project.api import UnknownView
from webapp.rooms.api import JoinView, MembersView, MemberView, PublicRoomsView, RoomsView, RoomView

handler400 = "webapp.project.error_pages.bad_request"
handler403 = "webapp.project.error_pages.permission_denied"
handler404 = "webapp.project.error_pages.page_not_found"
handler500 = "webapp.project.error_pages.server_error"

api = [
    path("rooms", RoomsView.as_view()),
    path("public-rooms", PublicRoomsView.as_view()),
    path("rooms/<uuid:room_id>/join", JoinView.as_view()),
    path("rooms/<uuid:room_id>", RoomView.as_view()),
    path("rooms/<uuid:room_id>/messages", MessagesView.as_view()),
    path("rooms/<uuid:room_id>/log", LogView.as_view()),
    path("rooms/<uuid:room_id>/members", MembersView.as_view()),
    path("rooms/<uuid:room_id>/members/<int:user_id>", MemberView.as_view()),
    path("rooms/<uuid:room_id>/invitations", RoomInvitationsView.as_view()),
    path("rooms/<uuid:room_id>/invitations/<uuid:invitation_id>", RoomInvitationView.as_view()),
    path("rooms/<uuid:room_id>/invitation-links", LinksView.as_view()),
    path("rooms/<uuid:room_id>/invitation-links/<uuid:link_id>", LinkView.as_view()),
    path("invitations", InvitationsView.as_view()),
    path("invitations/<uuid:invitation_id>/accept", AcceptView.as_view()),
    path("invitations/<uuid:invitation_id>/decline", DeclineView.as_view()),
    path("invitations/<str:token>", LinkTargetView.as_view()),
    path("invitations/<str:token>/accept", AcceptLinkView.as_view()),
    path("socket-ticket", SocketTicketView.as_view()),
    re_path("", UnknownView.as_view()),
]

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="rooms:list")),
    path("accounts/", include("webapp.accounts.urls")),
    path("rooms/", include("webapp.rooms.urls")),
    path("invitations/", include("webapp.invitations.urls")),
    path("api/", include(api)),
    path("health/live", health.live),
    path("health/ready", health.ready),
]
