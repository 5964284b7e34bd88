"""Slow and strange clients of web and gateway, alone and behind nginx: all others are served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bus.runtime.process import take_files
from tests.conftest import run_server
from tests.support.nginx import Nginx
from tests.support.raw_http import STRANGER, ask, get, many, port_of, statuses
from tests.support.stack import Stack

pytestmark = pytest.mark.parametrize("backend", ["embedded"], indirect=True)

HOST = b"Host: 127.0.0.1\r\n"
LOG_IN = b"POST /accounts/login/ HTTP/1.1\r\n" + HOST
FORM = b"Content-Type: application/x-www-form-urlencoded\r\nCookie: csrftoken=" + b"a" * 32
CLIENTS = {
    "silent": (1_100, b""),
    "heads": (100, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: "),
    "bodies": (2_050, LOG_IN + FORM + b"\r\nContent-Length: 100\r\n\r\ncsrf"),
    "chunks": (100, LOG_IN + FORM + b"\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ncsrf\r\n"),
    "methods": (2_050, b"A" * 33 + b" / HTTP/1.1\r\n" + HOST + b"\r\n"),
}


@pytest.fixture(scope="module")
def behind_nginx(site: str) -> Iterator[str]:
    for nginx in run_server(Nginx(site)):
        yield nginx.url


@pytest.fixture(scope="module", params=["alone", "nginx"])
def url(request: pytest.FixtureRequest, site: str) -> str:
    if request.param == "alone":
        return site
    behind: str = request.getfixturevalue("behind_nginx")
    return behind


def answers(port: int, path: str, **arguments: str) -> list[int]:
    return statuses(ask(port, get(path), **arguments))


@pytest.mark.parametrize(("count", "sent"), CLIENTS.values(), ids=CLIENTS)
def test_others_are_served_meanwhile(
    backend: Stack, site: str, url: str, count: int, sent: bytes
) -> None:
    take_files()
    port = port_of(url)
    health = "/gateway/health" if site == backend.gateway_url else "/health"
    with many(port, count, sent):
        assert answers(port, f"{health}/live") == [200]
        assert answers(port, f"{health}/ready") == [200]
        assert answers(port, "/accounts/login/") == [200]
        assert answers(port, "/accounts/login/", address=STRANGER) == [200], "its own share too"


def test_a_log_in_with_a_chunked_body_and_two_cookie_fields(url: str) -> None:
    """Two fields, as HTTP/2 may split them (RFC 9113, 8.2.3): both cookies count."""
    port = port_of(url)
    page = ask(port, get("/accounts/login/"))
    cookie = page.partition(b"csrftoken=")[2].partition(b";")[0]
    token = page.partition(b'name="csrfmiddlewaretoken" value="')[2].partition(b'"')[0]
    form = b"csrfmiddlewaretoken=%s&username=nobody%%40example.org&password=wrong" % token
    head = LOG_IN + b"Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n"
    head += b"Cookie: theme=dark\r\nCookie: csrftoken=%s\r\n" % cookie
    pieces = [form[start : start + 9] for start in range(0, len(form), 9)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    sent = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    assert statuses(ask(port, sent)) == [200], "the form again, with its error"


ILLEGAL = {
    "a bare LF": b"GET / HTTP/1.1\n" + HOST + b"Connection: close\r\n\r\n",
    "a folded field": b"GET / HTTP/1.1\r\n" + HOST + b"X-A: 1\r\n 2\r\nConnection: close\r\n\r\n",
    "a CR in a chunk extension": LOG_IN
    + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n",
    "a bare LF after a chunk": LOG_IN
    + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
}


@pytest.mark.parametrize("sent", ILLEGAL.values(), ids=ILLEGAL)
def test_web_and_gateway_refuse_the_same(site: str, sent: bytes) -> None:
    """nginx takes some of these, and forwards them in one clean form."""
    assert statuses(ask(port_of(site), sent)) == [400]
