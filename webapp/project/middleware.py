"""Middleware for all requests: trace, metrics, faults, caching, https, Content-Security-Policy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from csp.middleware import CSPMiddleware, PolicyParts
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from bus.runtime import trace
from webapp.project.bridge import bridge_origin
from webapp.project.error_pages import API_PREFIX, error_answer
from webapp.project.errors import Forbidden
from webapp.project.metrics import HTTP_REQUESTS, HTTP_SECONDS
from webapp.project.outages import outage

logger = logging.getLogger(__name__)

# A client may send any method; unknown ones share one label, so that labels stay few.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Watching:
    """Continues or starts the request's trace, returns it in the response, counts and times.

    It is the first middleware, so every response passes through it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.monotonic()
        with trace.continued(request.headers.get(trace.HEADER)) as traceparent:
            response = self._get_response(request)
            response.headers[trace.HEADER] = traceparent
            _count(request, response, time.monotonic() - started)
            # The route, not the path, which may contain a secret.
            route = request.resolver_match.route if request.resolver_match else "-"
            logger.debug("%s /%s: %d", request.method, route, response.status_code)
        return response


def _count(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    method = request.method if request.method in METHODS else "other"
    HTTP_REQUESTS.labels(method, f"{response.status_code // 100}xx").inc()
    HTTP_SECONDS.labels(method).observe(seconds)


class Outages:
    """Answers 503 for a view that a server behind the web tier has let down.

    ``error_pages.server_error`` does so for a middleware.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        unavailable = outage(request, error)
        return error_answer(request, unavailable) if unavailable else None


class NoStore:
    """Keeps browsers and proxies from storing a response, unless it says how long they may.

    Static files do. All else may be private: Back, after a log-out, would show it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


class ApiByHttps:
    """Refuses calls of the API in the clear, which Django's SecurityMiddleware would redirect.

    A program whose calls were redirected would go on sending its secrets in the clear.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        is_call = request.path.startswith(API_PREFIX)
        if is_call and settings.SECURE_SSL_REDIRECT and not request.is_secure():
            return error_answer(request, Forbidden("Call the API by https.", "https_required"))
        return self._get_response(request)


class ContentSecurityPolicy(CSPMiddleware):
    """Adds the bridge to ``connect-src`` of the policy in the settings.

    ``'self'`` covers neither another port nor, in some browsers, the ``ws`` scheme.
    """

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            parts.update = {"connect-src": [bridge_origin(request)]}
        return parts
