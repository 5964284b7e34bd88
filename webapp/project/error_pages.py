"""Django's error handlers: they answer in JSON under /api/ and with a page elsewhere."""

from __future__ import annotations

import sys

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from webapp.project.api import error_response, set_retry_after, too_large
from webapp.project.errors import Forbidden, InvalidInput, NotFound, NotLoggedIn, WebError
from webapp.project.outages import outage

API_PREFIX = "/api/"


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if isinstance(exception, RequestDataTooBig):
        return error_answer(request, too_large())
    return error_answer(request, InvalidInput("The server does not understand this request."))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return error_answer(request, Forbidden(str(exception) or "You may not do this."))


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return error_answer(request, NotFound("There is nothing at this address."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django calls it while it handles the exception, which may come from a middleware."""
    ours = WebError("Something went wrong on the server. The error has been logged.")
    return error_answer(request, outage(request, sys.exception()) or ours)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """CSRF_FAILURE_VIEW. Without a log-in, an API call is answered 401 first."""
    if request.path.startswith(API_PREFIX) and not request.user.is_authenticated:
        return error_response(NotLoggedIn("Log in first."))
    message = "The request has no valid CSRF token. Reload the page and try again."
    return error_answer(request, Forbidden(message, "csrf_failed"))


def error_answer(request: HttpRequest, error: WebError) -> HttpResponse:
    """``error`` as JSON or as a page, by the request's path."""
    if request.path.startswith(API_PREFIX):
        return error_response(error)
    context = {"status": error.status, "message": str(error)}
    # A page about a failure may need no server, not even to show who is logged in.
    shown_to = request if error.status < 500 else None
    page = render_to_string("project/error.html", context, shown_to)
    response = HttpResponse(page, status=error.status)
    set_retry_after(response, error)
    return response
