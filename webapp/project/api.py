"""What all views of the JSON API share: log-in, reading input, errors as JSON."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.gzip import gzip_page

from webapp.accounts.models import User
from webapp.project.errors import (
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    NotLoggedIn,
    TooLarge,
    UnsupportedMediaType,
    WebError,
)

compressed = method_decorator(gzip_page)
"""For a method whose answer has no secret beside text of people who may not read all of it.

The length of a compressed answer, which TLS does not hide, tells such people when their text
resembles the secret (https://breachattack.com). So the list of somebody's rooms, to which others
may add a room with a name of their choice, is not compressed.
"""


class UserRequest(HttpRequest):
    """A request by a logged-in user."""

    user: User


class ApiView(View):
    """Base of the API's views. Answers 401 to requests without a log-in."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            if not request.user.is_authenticated:
                raise NotLoggedIn("Log in first.")
            return super().dispatch(request, *args, **kwargs)
        except WebError as error:
            return error_response(error)

    def http_method_not_allowed(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        allowed = super().http_method_not_allowed(request, *args, **kwargs)["Allow"]
        response = error_response(MethodNotAllowed(f"Accepted here: {allowed}."))
        response["Allow"] = allowed
        return response


class UnknownView(ApiView):
    """Answers 404 for every other path under /api/."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return error_response(NotFound("There is nothing at this address."))


def error_response(error: WebError) -> JsonResponse:
    response = JsonResponse(
        {"error": {"code": error.code, "message": str(error)}}, status=error.status
    )
    set_retry_after(response, error)
    return response


def set_retry_after(response: HttpResponse, error: WebError) -> None:
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)


def read_json(request: HttpRequest) -> dict[str, Any]:
    """Decodes the JSON object (RFC 8259) in the request's body.

    Raises UnsupportedMediaType, TooLarge (above 64 KiB) or InvalidInput.
    """
    if request.content_type != "application/json":
        raise UnsupportedMediaType("Send the Content-Type application/json.")
    try:
        content = msgspec.json.decode(request.body)
    except RequestDataTooBig:
        raise too_large() from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"The body is not valid JSON: {error}", "invalid_json") from error
    if not isinstance(content, dict):
        raise InvalidInput("The body must be a JSON object.", "invalid_json")
    return content


def too_large() -> TooLarge:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1024
    return TooLarge(f"The request is too large; at most {limit} KiB are accepted.")


def read_limit(request: HttpRequest, default: int, maximum: int) -> int:
    """The query parameter ``limit``, from 1 to ``maximum``. Raises InvalidInput."""
    return read_number(request, "limit", 1, maximum) or default


def read_number(request: HttpRequest, name: str, minimum: int, maximum: int) -> int | None:
    """The whole number in the query parameter ``name``; None if absent. Raises InvalidInput."""
    text = request.GET.get(name)
    if text is None:
        return None
    # isdecimal() alone accepts the digits of other scripts, and int() accepts any number of them.
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise InvalidInput(f"“{name}” must be a whole number from {minimum} to {maximum}.")
    number = int(text)
    if not minimum <= number <= maximum:
        raise InvalidInput(f"“{name}” must be a whole number from {minimum} to {maximum}.")
    return number


def read_uuid(request: HttpRequest, name: str) -> uuid.UUID | None:
    """The UUID in the query parameter ``name``; None if absent. Raises InvalidInput."""
    text = request.GET.get(name)
    if text is None:
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        raise InvalidInput(f"“{name}” must be a message id.") from None
