"""Logging in by an OpenID Connect provider: what django-allauth asks of chatbus there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.forms import SignupForm
from allauth.socialaccount.models import SocialLogin
from django import forms
from django.conf import settings
from django.http import HttpRequest

from webapp.accounts.addresses import normal_email
from webapp.accounts.forms import AddressField, WithoutPlaceholders
from webapp.accounts.models import MAX_DISPLAY_NAME, User
from webapp.project.errors import InvalidInput
from webapp.project.forms import NameField
from webapp.project.text import clean_name

NAMELESS = "New member"


class SocialAdapter(DefaultSocialAccountAdapter):
    def populate_user(
        self, request: HttpRequest, sociallogin: SocialLogin, data: Mapping[str, Any]
    ) -> User:
        """Takes name and address from the provider, in the form in which they are stored here.

        An address that is none is left out: the person is asked for one.
        """
        user: User = super().populate_user(request, sociallogin, data)
        user.display_name = _display_name(data)
        user.email = _address(user.email)
        for address in sociallogin.email_addresses:
            address.email = _address(address.email)
        sociallogin.email_addresses = [each for each in sociallogin.email_addresses if each.email]
        return user

    def get_signup_form_initial_data(self, sociallogin: SocialLogin) -> dict[str, Any]:
        name = sociallogin.user.display_name
        return super().get_signup_form_initial_data(sociallogin) | {"display_name": name}

    def get_requests_session(self) -> requests.Session:
        """Verifies certificates by TLS_CA_FILE, as everything else does."""
        session: requests.Session = super().get_requests_session()
        if settings.TLS_CA_FILE:
            session.verify = settings.TLS_CA_FILE
        return session


class SocialRegisterForm(WithoutPlaceholders, SignupForm):
    """For who comes without an address that can be used."""

    email = AddressField()
    display_name = NameField(
        label="Display name",
        maximum=MAX_DISPLAY_NAME,
        widget=forms.TextInput(attrs={"autocomplete": "nickname"}),
    )


def _display_name(data: Mapping[str, Any]) -> str:
    email = str(data.get("email") or "")
    for candidate in (data.get("name"), data.get("username"), email.partition("@")[0]):
        try:
            return clean_name(str(candidate or "")[:MAX_DISPLAY_NAME], "name", MAX_DISPLAY_NAME)
        except InvalidInput:
            continue
    return NAMELESS


def _address(email: str) -> str:
    try:
        return normal_email(email)
    except InvalidInput:
        return ""
