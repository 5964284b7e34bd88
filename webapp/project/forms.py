"""Form fields that several pages share."""

from __future__ import annotations

from typing import Any

from django import forms

from webapp.project.errors import InvalidInput
from webapp.project.text import clean_name


class NameField(forms.CharField):
    """The name of a person or a room, checked by ``clean_name``; ``maximum`` is in characters.

    The browser stops at that length; the server counts the characters of the stored form.
    """

    def __init__(self, *, label: str, maximum: int, **options: Any) -> None:
        super().__init__(label=label, **options)
        self._maximum = maximum
        self.widget.attrs["maxlength"] = maximum

    def clean(self, value: object) -> str:
        text = super().clean(value)
        try:
            return clean_name(text, str(self.label), self._maximum)
        except InvalidInput as error:
            raise forms.ValidationError(str(error)) from error
