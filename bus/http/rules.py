"""Which requests and answers pass, and with which headers. No I/O.

These rules refuse what the parser takes and another server could read differently (RFC 9112,
11.2), and remove in both directions the fields that concern one connection only (RFC 9110, 7.6.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bus.http.errors import HttpRefused, RawHeaders
from bus.rpc.messages import Headers

MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024
MAX_TARGET_BYTES = 8 * 1024

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# The gateway answers Expect itself, and writes the others itself.
_REWRITTEN = frozenset({"content-length", "expect", "forwarded", "host", "x-real-ip"})
BODILESS = frozenset({204, 304})

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Visible ASCII except #, which never leaves a browser.
_TARGET = re.compile(r"/[!\"$-~]*")
_HOST = re.compile(r"(?P<name>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Head:
    """An accepted request without its body. ``length`` is the Content-Length, None without one."""

    method: str
    target: str
    headers: Headers
    client: str
    scheme: Literal["http", "https"]
    length: int | None


def admit(scope: Mapping[str, Any], allowed_hosts: tuple[str, ...]) -> Head:
    """The head in an ASGI scope, cleaned for forwarding. Raises HttpRefused."""
    headers = _decoded(scope["headers"])
    _check_version(scope["http_version"])
    _check_framing(headers, scope["http_version"])
    _check_fields(headers)
    host = _host(headers, allowed_hosts)
    client = scope["client"][0] if scope["client"] else ""
    scheme: Literal["http", "https"] = "https" if scope["scheme"] == "https" else "http"
    lengths = [int(value) for name, value in headers if name == "content-length"]
    return Head(
        method=scope["method"],
        target=_target(scope),
        headers=(
            *_end_to_end(headers),
            ("host", host),
            ("x-forwarded-for", client),
            ("x-forwarded-proto", scheme),
            ("x-forwarded-host", host),
        ),
        client=client,
        scheme=scheme,
        length=lengths[0] if lengths else None,
    )


def reply_headers(method: str, status: int, headers: Headers, length: int) -> RawHeaders:
    """The application's ``headers`` for the browser, with a body of ``length`` bytes. Raises
    HttpRefused.

    Content-Length is the body's. The answer to a HEAD keeps the application's, which says what a
    GET would get (RFC 9110, 8.6).
    """
    fields = [(name.lower(), value.strip(" \t")) for name, value in headers]
    for name, value in fields:
        if not _is_sendable(name, value):
            raise HttpRefused(502, "bad_reply", "The application sent a header that is not valid.")
    # The server writes its own date.
    dropped = HOP_BY_HOP | _named_in_connection(fields) | {"date"}
    if method != "HEAD":
        dropped |= {"content-length"}
    kept = [(name, value) for name, value in fields if name not in dropped]
    if method != "HEAD" and status not in BODILESS:
        kept.append(("content-length", str(length)))
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept]


def is_allowed_host(host: str, allowed: tuple[str, ...]) -> bool:
    """Whether ``host``, a Host header, is well formed and in ``allowed``.

    ``.example.org`` allows the domain and its subdomains, ``*`` every host.
    """
    match = _HOST.fullmatch(host.lower())
    if match is None or int(match["port"] or 0) > 65_535:
        return False
    name = match["name"].removesuffix(".")
    return any(_fits(name, pattern.lower()) for pattern in allowed)


def _fits(name: str, pattern: str) -> bool:
    if pattern.startswith("."):
        return name == pattern[1:] or name.endswith(pattern)
    return pattern in ("*", name)


def _decoded(raw: RawHeaders) -> list[tuple[str, str]]:
    size = sum(len(name) + len(value) for name, value in raw)
    if len(raw) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        accepted = f"Accepted are {MAX_HEADERS} header fields of {MAX_HEADER_BYTES} bytes in all."
        raise HttpRefused(431, "headers_too_large", accepted, close=True)
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]


def _check_version(version: str) -> None:
    if version not in ("1.0", "1.1"):
        raise HttpRefused(505, "bad_version", "Accepted are HTTP/1.0 and HTTP/1.1.", close=True)


def _check_framing(headers: list[tuple[str, str]], version: str) -> None:
    names = {name for name, _ in headers}
    if "transfer-encoding" in names and ("content-length" in names or version == "1.0"):
        raise HttpRefused(
            400,
            "bad_framing",
            "Transfer-Encoding goes neither with Content-Length nor with HTTP/1.0.",
            close=True,
        )
    codings = {value.lower() for name, value in headers if name == "transfer-encoding"}
    if not codings <= {"chunked"}:
        raise HttpRefused(
            501, "unknown_coding", "Accepted is Transfer-Encoding: chunked.", close=True
        )


def _check_fields(headers: list[tuple[str, str]]) -> None:
    for name, value in headers:
        if _CONTROL.search(value):
            raise HttpRefused(
                400, "bad_header", f"The header {name} has a control character.", close=True
            )


def _host(headers: list[tuple[str, str]], allowed: tuple[str, ...]) -> str:
    hosts = [value for name, value in headers if name == "host"]
    if len(hosts) != 1 or not is_allowed_host(hosts[0], allowed):
        raise HttpRefused(400, "bad_host", "The Host header names no host of this site.")
    return hosts[0]


def _target(scope: Mapping[str, Any]) -> str:
    """The target as it was sent; only a path, since the gateway is no forward proxy."""
    path: str = scope["raw_path"].decode("latin-1")
    query: str = scope["query_string"].decode("latin-1")
    target = f"{path}?{query}" if query else path
    if len(target) > MAX_TARGET_BYTES:
        accepted = f"Accepted is a target of {MAX_TARGET_BYTES} bytes."
        raise HttpRefused(414, "target_too_long", accepted, close=True)
    if not _TARGET.fullmatch(target):
        raise HttpRefused(
            400, "bad_target", "The request's target is not a path that begins with /."
        )
    return target


def _end_to_end(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    dropped = HOP_BY_HOP | _named_in_connection(headers) | _REWRITTEN
    return [
        (name, value)
        for name, value in headers
        # WSGI makes X_Y and X-Y the same variable; only X-Y is the real field.
        if name not in dropped and "_" not in name and not name.startswith("x-forwarded-")
    ]


def _named_in_connection(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    values = (value for name, value in headers if name == "connection")
    return frozenset(token.strip().lower() for value in values for token in value.split(","))


def _is_sendable(name: str, value: str) -> bool:
    if name == "content-length":
        return value.isascii() and value.isdecimal()
    in_latin_1 = all(ord(character) < 256 for character in value)
    return bool(_TOKEN.fullmatch(name)) and not _CONTROL.search(value) and in_latin_1
