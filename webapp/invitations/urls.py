"""Pages under /invitations/."""

from __future__ import annotations

from django.urls import path

from webapp.invitations.pages import AcceptPage, DeclinePage, InvitationsPage, LinkPage

app_name = "invitations"
urlpatterns = [
    path("", InvitationsPage.as_view(), name="list"),
    path("<str:token>/", LinkPage.as_view(), name="link"),
    path("<uuid:invitation_id>/accept/", AcceptPage.as_view(), name="accept"),
    path("<uuid:invitation_id>/decline/", DeclinePage.as_view(), name="decline"),
]
