"""Runs a WSGI application (PEP 3333) for one request."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from math import inf
from types import TracebackType
from typing import IO, Any
from urllib.parse import unquote_to_bytes, urlsplit

from bus.errors import ReplyTooLarge
from bus.rpc.messages import Headers, HeldRequest

Environ = dict[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

DEFAULT_PORTS = {"http": 80, "https": 443}


def run_application(
    application: Application, request: HeldRequest, body: IO[bytes], most: float = inf
) -> tuple[int, Headers]:
    """Writes the response's body to ``body``, ``most`` bytes of it; returns status and headers.

    Raises ReplyTooLarge, and whatever the application raises.
    """
    response = _Response(body, most)
    blocks = application(environ(request), response.start)
    try:
        for block in blocks:
            response.write(block)
    finally:
        if close := getattr(blocks, "close", None):
            close()
    return response.head()


def environ(request: HeldRequest) -> Environ:
    """The environment of PEP 3333 for ``request``; text is Latin-1, as the PEP wants it."""
    path, _, query = request.target.partition("?")
    headers = _variables(request.headers)
    content_type = headers.pop("HTTP_CONTENT_TYPE", "")
    host = urlsplit(f"//{headers.get('HTTP_HOST', '')}")
    return headers | {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(request.body)),
        "SERVER_NAME": host.hostname or "localhost",
        "SERVER_PORT": str(host.port or DEFAULT_PORTS[request.scheme]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": request.client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def _variables(headers: Headers) -> Environ:
    """Headers as ``HTTP_…`` variables; repeated ones become one (RFC 9110, 5.3; RFC 6265, 5.4)."""
    variables: Environ = {}
    for name, value in headers:
        key = "HTTP_" + name.upper().replace("-", "_")
        separator = "; " if key == "HTTP_COOKIE" else ","
        variables[key] = f"{variables[key]}{separator}{value}" if key in variables else value
    return variables


class _Response:
    """Collects the application's response to one request in ``body``."""

    def __init__(self, body: IO[bytes], most: float) -> None:
        self._body = body
        self._most = most
        self._status: str | None = None
        self._headers: Headers = ()

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """``start_response``. Nothing has been sent yet, so an error may replace the response."""
        if self._status is not None and exc_info is None:
            raise RuntimeError("start_response was called twice without exc_info")
        self._status, self._headers = status, tuple(headers)
        self._body.seek(0)
        self._body.truncate()
        return self.write

    def write(self, block: bytes) -> None:
        if self._status is None:
            raise RuntimeError("the application sent a body before it called start_response")
        self._body.write(block)
        if self._body.tell() > self._most:
            raise ReplyTooLarge(int(self._most))

    def head(self) -> tuple[int, Headers]:
        if self._status is None:
            raise RuntimeError("the application did not call start_response")
        return int(self._status[:3]), self._headers
