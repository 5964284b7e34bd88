"""The form of the rooms page."""

from __future__ import annotations

import uuid

from django import forms

from webapp.project.forms import NameField
from webapp.project.idempotency import hash_request
from webapp.rooms.models import MAX_ROOM_NAME


def _new_key() -> str:
    return uuid.uuid4().hex


class CreateRoomForm(forms.Form):
    """``key`` is what a double click sends again."""

    key = forms.CharField(widget=forms.HiddenInput, initial=_new_key, required=False)
    name = NameField(
        label="Room name",
        maximum=MAX_ROOM_NAME,
        widget=forms.TextInput(attrs={"placeholder": "New room", "autocomplete": "off"}),
    )

    def name_and_key(self) -> tuple[str, str | None]:
        """The room's name and an Idempotency-Key for it: the page that Back shows has the same
        ``key`` for a room of another name."""
        name, key = self.cleaned_data["name"], self.cleaned_data["key"]
        return name, hash_request(f"{key} {name}") if key else None
