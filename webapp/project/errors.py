"""What the web refuses, each with the HTTP status (RFC 9110) and a stable code for programs."""

from __future__ import annotations


class WebError(Exception):
    """Root of the refusals; ``str()`` of it is meant for the user."""

    status = 500
    code = "error"

    def __init__(self, message: str, code: str | None = None) -> None:
        self.code = code or self.code
        super().__init__(message)


class InvalidInput(WebError):
    status = 400
    code = "invalid_input"


class NotLoggedIn(WebError):
    status = 401
    code = "not_logged_in"


class Forbidden(WebError):
    status = 403
    code = "forbidden"


class NotFound(WebError):
    status = 404
    code = "not_found"


class MethodNotAllowed(WebError):
    status = 405
    code = "method_not_allowed"


class Conflict(WebError):
    status = 409
    code = "conflict"


class TooLarge(WebError):
    status = 413
    code = "too_large"


class UnsupportedMediaType(WebError):
    status = 415
    code = "unsupported_media_type"


class Unavailable(WebError):
    """Something behind the web is away; the same request may succeed a moment later."""

    status = 503
    code = "unavailable"
