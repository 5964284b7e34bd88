"""Where a request comes from."""

from __future__ import annotations

from allauth.account.adapter import get_adapter
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """The client's IP address, as django-allauth's limits see it too.

    Empty where the server does not know it, behind a Unix socket.
    """
    try:
        return get_adapter().get_client_ip(request)
    except PermissionDenied:
        return ""
