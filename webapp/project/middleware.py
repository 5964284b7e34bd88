"""What every response gets."""

from __future__ import annotations

from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest, HttpResponseBase

from webapp.project.bridge import bridge_origin


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
