"""Where the management API is looked for."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from bus.errors import BrokerUnavailable, SettingError
from bus.runtime.settings import Environment
from bus.transport.rabbitmq.management_api import Management
from tests.support.ports import HOST, free_port


@pytest.mark.parametrize(
    ("broker", "urls", "vhost"),
    [
        ("amqp://a", ("http://a:15672",), "/"),
        ("amqp://u:p@a:5672/chat", ("http://a:15672",), "chat"),
        ("amqp://a//", ("http://a:15672",), "/"),
        ("amqp://a/%2F", ("http://a:15672",), "/"),
        ("amqps://a/x", ("https://a:15671",), "x"),
        ("amqp://a;amqp://[::1]", ("http://a:15672", "http://[::1]:15672"), "/"),
        ("amqp://a:5673", (), "/"),
    ],
)
def test_the_address_follows_from_the_brokers(
    broker: str, urls: tuple[str, ...], vhost: str
) -> None:
    management = Management.from_url(broker)
    assert (management.urls, management.vhost) == (urls, vhost)


def test_a_given_address_wins_and_may_have_a_user_of_its_own() -> None:
    management = Management.from_url("amqp://a:5673/x", "https://me:secret@b:443/rabbit/")
    assert management.urls == ("https://b:443/rabbit",)
    assert management.vhost == "x"


def test_several_nodes_may_be_given() -> None:
    management = Management.from_url("amqp://a:5673", "http://a:1;http://me:secret@b:2/rabbit")
    assert management.urls == ("http://a:1", "http://b:2/rabbit")


def test_settings_that_cannot_be_used_are_named() -> None:
    broker = {"BROKER_URL": "amqp://a"}
    for url in ("b:15672", "http://", "http://b:x"):
        with pytest.raises(SettingError, match="BROKER_API_URL"):
            Management.from_environment(Environment({**broker, "BROKER_API_URL": url}))
    with pytest.raises(SettingError, match="BROKER_URL"):
        Management.from_environment(Environment({"BROKER_URL": "amqp://a:x"}))


def test_who_does_not_answer_is_named_without_the_password() -> None:
    address = f"http://{HOST}:{free_port()}"
    management = Management.from_url("amqp://u:secret@a", address)
    with pytest.raises(BrokerUnavailable, match="rabbitmq-plugins enable") as raised:
        management.queues()
    assert address in str(raised.value)
    assert "secret" not in str(raised.value)
    with pytest.raises(BrokerUnavailable, match="set BROKER_API_URL"):
        Management.from_url("amqp://a:5673").queues()


class _Redirecting(BaseHTTPRequestHandler):
    """Answers the first request by sending the client on; ``asked`` are the paths."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(302)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_no_redirect_is_followed() -> None:
    """The password would go along, to whatever host the answer names."""
    with HTTPServer((HOST, 0), _Redirecting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        management = Management.from_url("amqp://u:p@a", f"http://{HOST}:{server.server_port}")
        with pytest.raises(BrokerUnavailable, match="answers 302"):
            management.queues()
        server.shutdown()
    assert _Redirecting.asked == ["/api/queues/%2F"]


def test_the_node_that_answered_is_asked_first() -> None:
    with HTTPServer((HOST, 0), _Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        away, there = f"http://{HOST}:{free_port()}", f"http://{HOST}:{server.server_port}"
        management = Management.from_url("amqp://u:p@a", f"{away};{there}")
        assert management.queues() == []
        assert management.urls == (there, away)
        server.shutdown()


class _Empty(_Redirecting):
    """Has nothing of anything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"[]")
