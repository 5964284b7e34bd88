"""A WSGI application that tells what it was asked, for the tests of held requests.

It appends one line per run to the file in ECHO_LOG, before it does anything else.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

BINARY = [("Content-Type", "application/octet-stream")]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    query = parse_qs(environ["QUERY_STRING"])
    _log(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
    handler = {
        "/body": _body,
        "/cookies": _cookies,
        "/fail": _fail,
        "/huge": _huge,
        "/large": _large,
        "/hold": _hold,
        "/status": _status,
        "/bad-header": _bad_header,
    }.get(environ["PATH_INFO"], _environ)
    return handler(environ, query, start_response)


def _log(line: str) -> None:
    with Path(os.environ["ECHO_LOG"]).open("a") as log:
        log.write(line + "\n")


def _environ(environ: Any, query: Any, start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    answer = {key: value for key, value in environ.items() if isinstance(value, str)}
    start_response("200 OK", [("Content-Type", "application/json"), ("X-Worker", str(os.getpid()))])
    return [json.dumps(answer | {"body": body.decode("latin-1")}).encode()]


def _body(environ: Any, query: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", BINARY)
    return [environ["wsgi.input"].read()]


def _cookies(environ: Any, query: Any, start_response: Any) -> Iterable[bytes]:
    cookies = [("Set-Cookie", f"c{number}={number}; Path=/") for number in range(3)]
    start_response("200 OK", [*BINARY, *cookies, ("Connection", "X-Hop"), ("X-Hop", "1")])
    return [b"cookies"]


def _fail(environ: Any, query: Any, start_response: Any) -> Iterable[bytes]:
    raise RuntimeError("the application fails on purpose")


def _huge(environ: Any, query: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", BINARY)
    return (b"x" * 1_000_000 for _ in range(1_000))


def _large(environ: Any, query: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", BINARY)
    return [b"x" * 5_300_000]


def _hold(environ: Any, query: Any, start_response: Any) -> Iterable[bytes]:
    """Runs until the file named in the query exists."""
    released = Path(query["until"][0])
    while not released.exists():
        time.sleep(0.01)
    start_response("200 OK", BINARY)
    return [b"held"]


def _status(environ: Any, query: Any, start_response: Any) -> Iterable[bytes]:
    body = b"" if "empty" in query else b"body"
    write = start_response(f"{query['code'][0]} As Asked", [("Location", "/elsewhere"), *BINARY])
    write(body)
    return []


def _bad_header(environ: Any, query: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("X-Split", "a\r\nSet-Cookie: evil=1")])
    return [b""]
