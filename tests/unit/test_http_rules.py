"""What web and gateway let through, and how it answers what it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.gateway import priorities
from bus.errors import SettingError
from bus.http import rules
from bus.http.errors import HttpRefused, prefers_json, render
from bus.rpc.messages import Headers

HOSTS = ("example.org",)


def scope(*headers: tuple[bytes, bytes], **changes: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "raw_path": b"/a%20b",
        "query_string": b"x=1",
        "client": ("10.0.0.1", 4711),
        "headers": [(b"host", b"example.org"), *headers],
    } | changes


def test_a_clean_head_goes_on_as_it_is() -> None:
    head = rules.admit(
        scope((b"cookie", b"a=1"), (b"x-any", b"caf\xe9"), (b"cookie", b"b=2")), HOSTS
    )
    assert (head.method, head.target, head.client) == ("GET", "/a%20b?x=1", "10.0.0.1")
    assert head.headers == (
        ("cookie", "a=1"),
        ("x-any", "caf\xe9"),
        ("cookie", "b=2"),
        ("host", "example.org"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "example.org"),
    )


@pytest.mark.parametrize(
    "name",
    [
        b"connection",
        b"keep-alive",
        b"te",
        b"upgrade",
        b"proxy-authorization",
        b"x_forwarded_for",
        b"x_user",
        b"forwarded",
        b"x-real-ip",
        b"x-forwarded-port",
        b"expect",
    ],
)
def test_fields_that_end_at_the_gateway(name: bytes) -> None:
    head = rules.admit(scope((name, b"1")), HOSTS)
    assert name.decode() not in dict(head.headers)


def test_fields_named_in_connection_end_at_the_gateway_but_not_its_own() -> None:
    named = (b"connection", b"close, X-Hop , x-forwarded-for, host")
    head = rules.admit(scope(named, (b"x-hop", b"1")), HOSTS)
    assert dict(head.headers) == {
        "host": "example.org",
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "example.org",
    }


@pytest.mark.parametrize(
    ("request_scope", "status", "code"),
    [
        (scope((b"content-length", b"1"), (b"transfer-encoding", b"chunked")), 400, "bad_framing"),
        (scope((b"transfer-encoding", b"chunked"), http_version="1.0"), 400, "bad_framing"),
        (scope((b"transfer-encoding", b"identity, chunked")), 501, "unknown_coding"),
        (scope(http_version="2"), 505, "bad_version"),
        (scope((b"x-bad", b"a\x01b")), 400, "bad_header"),
        (scope((b"x-bad", b"a\x7f")), 400, "bad_header"),
        (scope(raw_path=b"http://example.org/"), 400, "bad_target"),
        (scope(raw_path=b"example.org:443", method="CONNECT"), 400, "bad_target"),
        (scope(raw_path=b"*", method="OPTIONS"), 400, "bad_target"),
        (scope(raw_path=b"/a#b"), 400, "bad_target"),
        (scope(raw_path=b"/" + b"a" * 9_000), 414, "target_too_long"),
        (scope(headers=[]), 400, "bad_host"),
        (scope((b"host", b"example.org")), 400, "bad_host"),
        (scope(headers=[(b"host", b"example.com")]), 400, "bad_host"),
        (scope(*[(b"x-many", b"1")] * 100), 431, "headers_too_large"),
        (scope((b"x-long", b"a" * 33_000)), 431, "headers_too_large"),
    ],
)
def test_heads_that_are_refused(request_scope: dict[str, Any], status: int, code: str) -> None:
    with pytest.raises(HttpRefused) as refused:
        rules.admit(request_scope, HOSTS)
    assert (refused.value.status, refused.value.code) == (status, code)


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("example.org", ("example.org",), True),
        ("EXAMPLE.org.:8002", ("Example.org",), True),
        ("a.example.org", ("example.org",), False),
        ("a.example.org", (".example.org",), True),
        ("example.org", (".example.org",), True),
        ("badexample.org", (".example.org",), False),
        ("[::1]:8002", ("[::1]",), True),
        ("anything", ("*",), True),
        ("any thing", ("*",), False),
        ("user@example.org", ("*",), False),
        ("example.org:port", ("*",), False),
        ("example.org:65536", ("*",), False),
        ("example.org/a", ("*",), False),
        ("", ("*",), False),
    ],
)
def test_allowed_hosts(host: str, allowed: tuple[str, ...], expected: bool) -> None:
    assert rules.is_allowed_host(host, allowed) is expected


def reply_headers(*headers: tuple[str, str], method: str = "GET", status: int = 200) -> Any:
    return rules.reply_headers(method, status, headers, 4)


def test_reply_headers_lose_what_concerns_one_connection() -> None:
    headers: Headers = (
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Set-Cookie", "a=1"),
        ("Content-Length", "999"),
        ("Set-Cookie", "b=2"),
        ("Date", "yesterday"),
    )
    assert reply_headers(*headers) == [
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"content-length", b"4"),
    ]


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        ("GET", 200, [(b"content-length", b"4")]),
        ("HEAD", 200, [(b"content-length", b"999")]),
        ("GET", 304, []),
        ("GET", 204, []),
    ],
)
def test_the_announced_length(method: str, status: int, expected: list[Any]) -> None:
    assert reply_headers(("Content-Length", "999"), method=method, status=status) == expected


@pytest.mark.parametrize(
    "header",
    [
        ("X-A", "a\r\nX-B: 1"),
        ("X A", "1"),
        ("", "1"),
        ("X-A", "\u20ac"),
        ("Content-Length", "4, 4"),
    ],
)
def test_reply_headers_that_cannot_be_sent(header: tuple[str, str]) -> None:
    with pytest.raises(HttpRefused) as refused:
        reply_headers(header)
    assert (refused.value.status, refused.value.code) == (502, "bad_reply")


@pytest.mark.parametrize(
    ("path", "priority"),
    [("/health/live", 9), ("/api/rooms", 7), ("/rooms/", 5), ("/", 5), ("/static/a.css", 3)],
)
def test_priorities_by_route(path: str, priority: int) -> None:
    assert priorities.priority_of(path, priorities.PRIORITIES) == priority


def test_own_priorities_go_first() -> None:
    own = priorities.parse_priorities(["/api/slow/=1", "/static/=0"])
    assert priorities.priority_of("/api/slow/x", own) == 1
    assert priorities.priority_of("/static/x", own) == 0
    assert priorities.priority_of("/api/x", own) == 7


@pytest.mark.parametrize("word", ["/api/", "api=7", "/api/=10", "/api/=-1", "/api/=x", "=1"])
def test_bad_priorities(word: str) -> None:
    with pytest.raises(SettingError, match="GATEWAY_PRIORITIES"):
        priorities.parse_priorities([word])


@pytest.mark.parametrize(
    ("path", "accept", "expected"),
    [
        ("/api/rooms", "text/html", True),
        ("/rooms/", "application/json", True),
        ("/rooms/", "text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("/rooms/", "text/html;q=0.5, application/json;q=0.9", True),
        ("/rooms/", "*/*", False),
        ("/rooms/", "", False),
        ("/rooms/", "application/*, text/html;q=0.1", True),
        ("/rooms/", "application/json;q=nan", False),
        ("/rooms/", "application/json;q=many", False),
    ],
)
def test_json_or_html(path: str, accept: str, expected: bool) -> None:
    assert prefers_json(path, accept) is expected


def test_an_error_as_json_and_as_a_page() -> None:
    refused = HttpRefused(503, "unavailable", "Not <now>.")
    headers, body = render(refused, "POST", "/api/x", "")
    assert dict(headers)[b"retry-after"] == b"5"
    assert json.loads(body) == {"error": {"code": "unavailable", "message": "Not <now>."}}
    headers, body = render(refused, "POST", "/x", "text/html")
    assert dict(headers)[b"content-type"] == b"text/html; charset=utf-8"
    assert b"Not &lt;now&gt;." in body
    assert b"Try again" in body


@pytest.mark.parametrize(
    ("status", "method", "hint"),
    [
        (504, "GET", "Try again"),
        (504, "POST", "look before you send it again"),
        (413, "POST", "Nothing was changed"),
    ],
)
def test_the_hint_never_invites_to_do_something_twice(status: int, method: str, hint: str) -> None:
    _, body = render(HttpRefused(status, "code", "message"), method, "/x", "")
    assert hint in body.decode()
