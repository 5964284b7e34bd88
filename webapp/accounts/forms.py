"""The forms of the account pages, and what chatbus changes in django-allauth's."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from allauth.account import app_settings
from allauth.account import forms as allauth
from allauth.account.fields import EmailField
from allauth.account.models import EmailAddress
from django import forms
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.http import HttpRequest, HttpResponse

from webapp.accounts import services
from webapp.accounts.addresses import normal_email
from webapp.accounts.models import MAX_DISPLAY_NAME, User
from webapp.project.errors import InvalidInput
from webapp.project.forms import NameField

EMAIL_TAKEN = "There is an account with this e-mail address. Log in instead."
PASSWORD_HELP = "At least 8 characters, and not easy to guess: several words are best."


class AddressField(EmailField):
    """An e-mail address in the form in which it is stored.

    All forms use it: a mail about the account of an address goes to the address as stored, never
    to what somebody typed that is merely compared as equal.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"label": "E-mail"} | options)
        self.widget.attrs.pop("placeholder")

    def clean(self, value: object) -> str:
        # Not allauth's own, whose lower() turns the Kelvin sign into a k.
        text = forms.EmailField.clean(self, value)
        try:
            return normal_email(text)
        except InvalidInput as error:
            raise forms.ValidationError(str(error)) from error


class WithoutPlaceholders(forms.Form):
    """The labels say the same. The first field has the focus."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs.pop("placeholder", None)
        next(iter(self.fields.values())).widget.attrs["autofocus"] = True


class RegisterForm(WithoutPlaceholders, allauth.SignupForm):
    email = AddressField()
    display_name = NameField(
        label="Display name",
        maximum=MAX_DISPLAY_NAME,
        widget=forms.TextInput(attrs={"autocomplete": "nickname"}),
        help_text="What others see next to your messages.",
    )
    field_order = ("email", "display_name", "password1", "password2")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].label = "E-mail"
        self.fields["password1"].help_text = PASSWORD_HELP
        self.fields["password2"].label = "Password again"

    def clean(self) -> dict[str, Any]:
        """allauth checks the password against the address alone; everybody sees the name, too."""
        cleaned: dict[str, Any] = super().clean()
        if {"email", "display_name", "password1"} <= cleaned.keys():
            user = User(email=cleaned["email"], display_name=cleaned["display_name"])
            try:
                validate_password(cleaned["password1"], user)
            except forms.ValidationError as error:
                self.add_error("password1", error)
        return cleaned

    def try_save(self, request: HttpRequest) -> tuple[User | None, HttpResponse | None]:
        """As in allauth. It takes as long for an address that has an account."""
        if self.account_already_exists:
            make_password(self.cleaned_data["password1"])
        return super().try_save(request)


class LoginForm(WithoutPlaceholders, allauth.LoginForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"] = AddressField()
        self.fields["login"].widget.attrs["autofocus"] = True
        self.order_fields(["login", "password"])


class ResetPasswordForm(WithoutPlaceholders, allauth.ResetPasswordForm):
    email = AddressField()


class ResetPasswordKeyForm(WithoutPlaceholders, allauth.ResetPasswordKeyForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password1"].help_text = PASSWORD_HELP


class ChangePasswordForm(WithoutPlaceholders, allauth.ChangePasswordForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password1"].help_text = PASSWORD_HELP


class ReauthenticateForm(WithoutPlaceholders, allauth.ReauthenticateForm):
    pass


class ChangeAddressForm(WithoutPlaceholders, allauth.AddEmailForm):
    """The new address takes the place of a confirmed one once it is confirmed itself, and that of
    an unconfirmed one at once."""

    email = AddressField(label="New address")

    def clean_email(self) -> str:
        email = super().clean_email()
        if not self._replaces_at_once():
            return email
        if app_settings.EMAIL_VERIFICATION == app_settings.EmailVerificationMethod.MANDATORY:
            raise forms.ValidationError("Confirm your present address first.")
        if User.objects.filter(email=email).exists():
            raise forms.ValidationError(EMAIL_TAKEN)
        return email

    def save(self, request: HttpRequest) -> EmailAddress:
        if self._replaces_at_once():
            return services.replace_address(request, self.user, self.cleaned_data["email"])
        return super().save(request)

    def _replaces_at_once(self) -> bool:
        return not EmailAddress.objects.filter(user=self.user, verified=True).exists()


class ProfileForm(forms.ModelForm):
    display_name = NameField(
        label="Display name",
        maximum=MAX_DISPLAY_NAME,
        widget=forms.TextInput(attrs={"autocomplete": "nickname"}),
        help_text="What others see next to your messages from now on.",
    )
    time_zone = forms.ChoiceField(
        label="Time zone", choices=[(name, name) for name in sorted(available_timezones())]
    )

    class Meta:
        model = User
        fields = ("display_name", "time_zone")
