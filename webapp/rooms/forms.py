"""The form of the rooms page."""

from __future__ import annotations

from django import forms

from webapp.project.forms import NameField
from webapp.rooms.models import MAX_ROOM_NAME


class CreateRoomForm(forms.Form):
    name = NameField(
        label="Room name",
        maximum=MAX_ROOM_NAME,
        widget=forms.TextInput(attrs={"placeholder": "New room", "autocomplete": "off"}),
    )
