"""The address of the websocket server, as the browser of a request can reach it."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.request import split_domain_port


def bridge_url(request: HttpRequest) -> str:
    """BRIDGE_URL with ``{host}`` replaced by the host name that the browser used."""
    host, _ = split_domain_port(request.get_host())
    return settings.BRIDGE_URL.replace("{host}", host)


def bridge_origin(request: HttpRequest) -> str:
    """The source of ``bridge_url`` for a Content-Security-Policy: scheme, host and port.

    For an IPv6 address it is the scheme alone: the grammar of a source has no brackets (CSP 3,
    section 2.3.1), and browsers ignore one that has. For a request with a forged host it is
    empty.
    """
    try:
        parts = urlsplit(bridge_url(request))
    except DisallowedHost:
        return ""
    if "[" in parts.netloc:
        return f"{parts.scheme}:"
    return f"{parts.scheme}://{parts.netloc}"
