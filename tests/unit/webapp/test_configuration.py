"""The web tier's settings as a function of the environment; no Django is started for it."""

from __future__ import annotations

import pytest

from bus.errors import SettingError
from bus.runtime.settings import Environment
from webapp.project.configuration import settings_from

GIVEN = {
    "DATABASE_URL": "mysql://chatbus:pass%2Fword@db.example/chatbus",
    "BROKER_URL": "amqp://h/",
    "MONGO_URL": "mongodb://h/chat",
    "SECRET_KEY": "0123456789abcdefghijklmnopqrstuv",
    "TICKET_KEYS": f"k:{'k' * 32}",
}


def read(**values: str) -> dict[str, object]:
    return settings_from(Environment(GIVEN | values))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("SECRET_KEY", value) for value in ("", "x", "short-key", "ab" * 30)),
        ("SECRET_KEY", "django-insecure-0123456789abcdefghijklmnopqrstuv"),
        *(("DATABASE_URL", url) for url in ("", "nonsense://", "mysql://h/", "mysql://h:abc/d")),
        ("DATABASE_URL", "mysql://u:hunter2@a/d;mysql://u:hunter2@b/d"),
        ("DATABASE_URL", "mysql://u:hunter2@a,b/d"),
        ("DATABASE_URL", "mysql://u:hunter2@a/d?x=1"),
        ("DATABASE_URL", "mysql://u:hunter2@a/d?ssl_mode=REQUIRED"),
        ("DATABASE_URL", "sqlite:///file?x=1"),
        ("BROKER_URL", "http://x"),
        ("BROKER_API_URL", "http://:15672"),
        *(("MONGO_URL", url) for url in ("", "mongodb://", "mongodb://127.0.0.1:port/")),
        ("TICKET_KEYS", "short:key"),
        ("TICKET_KEYS", f"a:{'k' * 32},a:{'l' * 32}"),
        *(("BRIDGE_URL", url) for url in ("http://x", "wss://u@h/", "ws://{domain}/")),
        ("BRIDGE_URL", "ws://h/#here"),
        *(("BRIDGE_URL", f"{scheme}://u:hunt@hunter2@h/") for scheme in ("ws", "amqp")),
        *((name, "https://u:hunter2@h") for name in ("ALLOWED_ORIGINS", "ALLOWED_HOSTS")),
        *(("EMAIL_FROM", sender) for sender in ("nobody", "a@b@c", "Chat <>")),
        ("EMAIL_URL", "smtp://u:hunter2@h"),
        *(("OIDC_SERVER", url) for url in ("http://id.example", "id.example", "https://")),
        ("DEBUG", "perhaps"),
        ("HTTPS", "perhaps"),
        ("SECURE_COOKIES", "1"),
        ("SECRET_KEY_FALLBACKS", f"{'0123456789abcdef' * 2},short-key"),
        *(("ALLOWED_HOSTS", host) for host in ("https://a", "a:80", "*.example.org", "a/b")),
        *(("ALLOWED_ORIGINS", origin) for origin in ("a.example", "https://*.example", "null")),
    ],
)
def test_a_bad_setting_is_named_and_no_password_of_it_is_shown(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}: ") as raised:
        read(**{name: value})
    assert "hunter2" not in str(raised.value)


def test_hosts_origins_and_the_bridge_are_written_as_browsers_write_them() -> None:
    settings = read(
        ALLOWED_HOSTS="Chat.Example.org, ::0:1, .Straße.example",
        ALLOWED_ORIGINS="https://Chat.Example.org:443/",
        BRIDGE_URL="WSS://Straße.example:443/Socket?a=1",
    )
    assert settings["ALLOWED_HOSTS"] == ["chat.example.org", "[::1]", ".xn--strae-oqa.example"]
    assert settings["CSRF_TRUSTED_ORIGINS"] == ["https://chat.example.org"]
    assert settings["BRIDGE_URL"] == "wss://xn--strae-oqa.example/Socket?a=1"


def test_mysql_by_tls_verifies_the_host_name() -> None:
    urls = ("mysql://u:p@h/d?ssl_mode=VERIFY_IDENTITY", "mysql://u:p@h/d?ssl-ca=/ca.pem")
    for url in urls:
        options = read(DATABASE_URL=url)["DATABASES"]["default"]["OPTIONS"]
        assert options["ssl_mode"] == "VERIFY_IDENTITY"
        assert options["charset"] == "utf8mb4"
    assert "ssl_mode" not in read()["DATABASES"]["default"]["OPTIONS"]
    assert read()["DATABASES"]["default"]["PASSWORD"] == "pass/word"


LOOPBACK = {"WEB_HOST": "127.0.0.1", "BRIDGE_HOST": "::1", "GATEWAY_HOST": "localhost"}


def test_addresses_count_as_confirmed_while_everything_listens_on_loopback() -> None:
    assert read(**LOOPBACK)["ADDRESSES_COUNT_AS_CONFIRMED"]
    assert read(**LOOPBACK, ALLOWED_HOSTS="127.0.0.1,[::1]")["ADDRESSES_COUNT_AS_CONFIRMED"]


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"WEB_HOST": "0.0.0.0"},
        {"BRIDGE_HOST": "192.0.2.1"},
        {"GATEWAY_HOST": ""},
        {"ALLOWED_HOSTS": "localhost,chat.example.org"},
        {"ALLOWED_HOSTS": ".localhost"},
        {"ALLOWED_HOSTS": "*"},
    ],
)
def test_they_do_not_where_others_may_come_in(elsewhere: dict[str, str]) -> None:
    assert not read(**LOOPBACK | elsewhere)["ADDRESSES_COUNT_AS_CONFIRMED"]


def test_a_mail_server_needs_a_sender() -> None:
    with pytest.raises(SettingError, match="EMAIL_FROM: is not set"):
        read(EMAIL_URL="smtp://h")
    given = read(EMAIL_URL="smtp://h", EMAIL_FROM="Chat <chat@example.org>")
    assert given["DEFAULT_FROM_EMAIL"] == "Chat <chat@example.org>"


def test_https_takes_no_address_that_is_plain_http() -> None:
    secure = {"HTTPS": "1", "BRIDGE_URL": "wss://{host}/ws", "ALLOWED_ORIGINS": "https://a.example"}
    assert read(**secure)["SESSION_COOKIE_SECURE"]
    with pytest.raises(SettingError, match=r"^BRIDGE_URL: .* starts with wss://"):
        read(**secure | {"BRIDGE_URL": ""})
    with pytest.raises(SettingError, match=r"^ALLOWED_ORIGINS: has http://b\.example"):
        read(**secure | {"ALLOWED_ORIGINS": "https://a.example,http://b.example"})


def test_old_keys_are_still_accepted_for_signatures() -> None:
    assert read()["SECRET_KEY_FALLBACKS"] == []
    old = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"]
    assert read(SECRET_KEY_FALLBACKS=", ".join(old))["SECRET_KEY_FALLBACKS"] == old


def test_an_openid_connect_provider_needs_a_client_and_its_secret() -> None:
    given = {"OIDC_SERVER": "https://id.example/", "OIDC_CLIENT_ID": "chatbus"}
    with pytest.raises(SettingError, match="OIDC_CLIENT_SECRET: is not set"):
        read(**given)
    providers = read(**given, OIDC_CLIENT_SECRET="s")["SOCIALACCOUNT_PROVIDERS"]
    assert providers["openid_connect"]["APPS"][0]["settings"]["server_url"] == "https://id.example"
    assert read()["SOCIALACCOUNT_PROVIDERS"] == {"openid_connect": {"APPS": []}}
