"""The form of the rooms page."""

from __future__ import annotations

from django import forms

from webapp.project.errors import InvalidInput
from webapp.project.text import clean_name
from webapp.rooms.models import MAX_ROOM_NAME


class CreateRoomForm(forms.Form):
    name = forms.CharField(
        label="Room name",
        max_length=MAX_ROOM_NAME,
        widget=forms.TextInput(attrs={"placeholder": "New room", "autocomplete": "off"}),
    )

    def clean_name(self) -> str:
        try:
            return clean_name(self.cleaned_data["name"], "Room name", MAX_ROOM_NAME)
        except InvalidInput as error:
            raise forms.ValidationError(str(error)) from error
