"""Errors of the web tier, each with an HTTP status (RFC 9110) and a stable code for programs."""

from __future__ import annotations


class WebError(Exception):
    """Root of the web tier's errors; its ``str()`` is shown to the user."""

    status = 500
    code = "error"
    # Seconds after which the same request may succeed.
    retry_after: int | None = None

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


class TooMany(WebError):
    status = 429
    code = "too_many_requests"

    def __init__(self, message: str, retry_after: int = 3600) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(WebError):
    """A server behind the web tier does not answer; the same request may succeed later."""

    status = 503
    code = "unavailable"
    retry_after = 1
