"""Checks e-mail address and password."""

from __future__ import annotations

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from webapp.accounts.models import User


class ByAddress(AuthenticationBackend):
    """The only backend that checks a password.

    Django's own is in the settings for the sessions that began with it. It would check a wrong
    password a second time, which takes as long as the first.
    """

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> User:
        """Raises PermissionDenied, after which Django asks no other backend."""
        user = super().authenticate(request, **credentials)
        if user is None:
            raise PermissionDenied
        return user
