"""The HTTP servers' own error answers: JSON for programs, a small page for people."""

from __future__ import annotations

import html
import json
import math
from http import HTTPStatus

from bus.rpc.messages import SAFE_METHODS

RawHeaders = list[tuple[bytes, bytes]]
RETRY_AFTER_SECONDS = 5

_TRY_LATER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
# What the server does not know, it has not done.
_UNKNOWN = frozenset({HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED})

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<h1>{title}</h1>
<p>{message}</p>
<p>{hint}</p>
"""
_LINK = '<a href="">Try again</a>'
_CAREFUL = "It may have been done all the same: look before you send it again."
_NOT_DONE = "Nothing was changed. Go back and correct it."


class HttpRefused(Exception):
    """The server answers the request itself, with ``status``.

    ``code`` is stable, for programs. ``close``: the server cannot know where the next request
    begins, so it closes the connection.
    """

    def __init__(self, status: int, code: str, message: str, *, close: bool = False) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.close = close
        super().__init__(f"{status} {code}: {message}")


def render(refused: HttpRefused, method: str, path: str, accept: str) -> tuple[RawHeaders, bytes]:
    """Headers and body of the answer to ``method`` ``path``."""
    if prefers_json(path, accept):
        content_type = "application/json"
        body = json.dumps({"error": {"code": refused.code, "message": refused.message}})
    else:
        content_type = "text/html; charset=utf-8"
        body = _PAGE.format(
            title=f"{refused.status} {HTTPStatus(refused.status).phrase}",
            message=html.escape(refused.message),
            hint=_hint(refused.status, method),
        )
    return _headers(refused, content_type), body.encode()


def prefers_json(path: str, accept: str) -> bool:
    """Whether the client of ``path`` reads JSON rather than HTML (RFC 9110, 12.5.1)."""
    return path.startswith("/api/") or (
        _quality(accept, "application/json") > _quality(accept, "text/html")
    )


def _hint(status: int, method: str) -> str:
    if status in _TRY_LATER or (status >= 500 and method in SAFE_METHODS):
        return _LINK
    return _CAREFUL if status >= 500 and status not in _UNKNOWN else _NOT_DONE


def _headers(refused: HttpRefused, content_type: str) -> RawHeaders:
    headers = [
        (b"content-type", content_type.encode()),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", b"default-src 'none'"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if refused.status in _TRY_LATER:
        headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    return headers


def _quality(accept: str, wanted: str) -> float:
    """The weight that ``accept`` gives to the media type ``wanted``; 0 if it excludes it."""
    kind = wanted.partition("/")[0]
    ranges = {"*/*": 0, f"{kind}/*": 1, wanted: 2}
    best, quality = -1, 0.0
    for part in accept.lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        if ranges.get(media, -1) > best:
            best, quality = ranges[media], _weight(parameters)
    return quality


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if math.isfinite(weight) else 0.0
    return 1.0
