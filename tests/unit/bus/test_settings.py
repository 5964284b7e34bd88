from __future__ import annotations

import pytest

from bus.errors import SettingError
from bus.runtime.settings import Environment
from bus.ticket import KeySet


def test_values_are_typed_and_empty_ones_take_the_default() -> None:
    environment = Environment({"PORT": " 81 ", "EMPTY": "", "LIST": "a, b,,c", "ON": "yes"})
    assert environment.integer("PORT", 80, minimum=1, maximum=65535) == 81
    assert environment.integer("EMPTY", 80, minimum=1, maximum=65535) == 80
    assert environment.words("LIST") == ("a", "b", "c")
    assert environment.flag("ON", False) is True
    assert environment.flag("OFF", False) is False


@pytest.mark.parametrize("text", ["x", "0", "70000", "1.5"])
def test_a_bad_number_names_variable_and_range(text: str) -> None:
    with pytest.raises(SettingError, match=r"PORT: .*from 1 to 65535"):
        Environment({"PORT": text}).integer("PORT", 80, minimum=1, maximum=65535)


@pytest.mark.parametrize(
    "url", ["", "localhost:5672", "http://x", "amqp://ok;http://not-ok", "amqp"]
)
def test_a_bad_url_names_variable_and_schemes(url: str) -> None:
    with pytest.raises(SettingError, match="BROKER_URL"):
        Environment({"BROKER_URL": url}).broker_url()


def test_several_hosts_are_accepted() -> None:
    urls = "amqp://a//;amqps://b//"
    assert Environment({"BROKER_URL": urls}).broker_url() == urls


@pytest.mark.parametrize("keys", ["", "short:secret", "no-colon", ":" + "x" * 32])
def test_bad_ticket_keys_are_named(keys: str) -> None:
    with pytest.raises(SettingError, match="TICKET_KEYS"):
        KeySet.from_environment(Environment({"TICKET_KEYS": keys}))


@pytest.mark.parametrize(
    "url",
    [
        *("amqp://h:abc/", "amqp://h:99999/", "amqp://[::1/", "amqp://a/;amqp://b:x/"),
        *("redis://h:abc/0", "redis://h/first", "redis://h/1/2"),
    ],
)
def test_a_url_that_no_client_can_read_is_refused(url: str) -> None:
    with pytest.raises(SettingError, match="BROKER_URL: names no"):
        Environment({"BROKER_URL": url}).broker_url()


def test_the_error_does_not_tell_the_password() -> None:
    with pytest.raises(SettingError) as raised:
        Environment({"BROKER_URL": "amqp://chat:se/cret@h/"}).broker_url()
    assert "'se'" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        *("redis://h", "redis://h/", "redis://:p%2F@h:1/15?timeout=1", "rediss://[::1]:6379/0"),
        "unix:///run/redis.sock?db=3",
    ],
)
def test_redis_urls_are_accepted(url: str) -> None:
    assert Environment({"REDIS_URL": url}).redis_url() == url


def test_the_members_of_a_replica_set_are_accepted() -> None:
    url = "mongodb://u:p@a:27017,b:27018,c/chat?replicaSet=rs0"
    assert Environment({"MONGO_URL": url}).mongo_url() == url


@pytest.mark.parametrize("values", [{}, {"BROKER_API_URL": " "}])
def test_an_optional_url_may_be_absent_or_empty(values: dict[str, str]) -> None:
    assert Environment(values).broker_api_url() is None


def test_an_optional_url_that_is_given_is_checked() -> None:
    assert Environment({"BROKER_API_URL": "http://h:1"}).broker_api_url() == "http://h:1"
    with pytest.raises(SettingError, match=r"BROKER_API_URL: .*http://, https://"):
        Environment({"BROKER_API_URL": "ftp://h"}).broker_api_url()
