"""What every request and every response gets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest, HttpResponseBase

from bus.runtime import trace
from webapp.project.bridge import bridge_origin
from webapp.project.metrics import HTTP_REQUESTS, HTTP_SECONDS

logger = logging.getLogger(__name__)

# Anybody may send any method: those that mean nothing here share one label.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Watching:
    """Continues or begins the request's trace, tells it in the response, counts and times.

    The first of all, so that nothing is answered without it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.monotonic()
        with trace.continued(request.headers.get(trace.HEADER)) as traceparent:
            response = self._get_response(request)
            response.headers[trace.HEADER] = traceparent
            _count(request, response, time.monotonic() - started)
            # The route, not the path: that may hold the token of an invitation.
            route = request.resolver_match.route if request.resolver_match else "-"
            logger.debug("%s /%s: %d", request.method, route, response.status_code)
        return response


def _count(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    method = request.method if request.method in METHODS else "other"
    HTTP_REQUESTS.labels(method, f"{response.status_code // 100}xx").inc()
    HTTP_SECONDS.labels(method).observe(seconds)


class ContentSecurityPolicy(CSPMiddleware):
    """The policy of the settings; pages may also connect to the bridge.

    ``'self'`` covers neither another port nor, in some browsers, the ``ws`` scheme.
    """

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            parts.update = {"connect-src": [bridge_origin(request)]}
        return parts
