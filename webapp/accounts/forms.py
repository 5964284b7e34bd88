"""The forms of the account pages."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, BaseUserCreationForm

from webapp.accounts.addresses import normal_email
from webapp.accounts.models import MAX_DISPLAY_NAME, User
from webapp.project.errors import InvalidInput
from webapp.project.forms import NameField

EMAIL_TAKEN = "There is an account with this e-mail address. Log in instead."


class RegisterForm(BaseUserCreationForm):
    display_name = NameField(
        label="Display name",
        maximum=MAX_DISPLAY_NAME,
        widget=forms.TextInput(attrs={"autocomplete": "nickname"}),
        help_text="What others see next to your messages.",
    )

    class Meta:
        model = User
        fields = ("email", "display_name")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].widget.attrs |= {"autocomplete": "email", "autofocus": True}
        self.fields["email"].error_messages["unique"] = EMAIL_TAKEN
        self.fields[
            "password1"
        ].help_text = "At least 8 characters; no common password, not only digits."
        self.fields["password2"].label = "Password again"
        self.fields["password2"].help_text = ""

    def clean_email(self) -> str:
        try:
            email = normal_email(self.cleaned_data["email"])
        except InvalidInput as error:
            raise forms.ValidationError(str(error)) from error
        if User.objects.filter(email=email).exists():
            raise forms.ValidationError(EMAIL_TAKEN)
        return email


class LoginForm(AuthenticationForm):
    error_messages = {  # noqa: RUF012 - Django's own way to override texts
        "invalid_login": "E-mail address and password do not match an account.",
        "inactive": "This account is switched off.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "E-mail"
        self.fields["username"].widget = forms.EmailInput(
            attrs={"autocomplete": "email", "autofocus": True}
        )
