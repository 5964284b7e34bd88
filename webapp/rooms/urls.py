"""Pages under /rooms/."""

from __future__ import annotations

from django.urls import path

from webapp.rooms.views import RoomListPage, RoomPage

app_name = "rooms"
urlpatterns = [
    path("", RoomListPage.as_view(), name="list"),
    path("<uuid:room_id>/", RoomPage.as_view(), name="room"),
]
