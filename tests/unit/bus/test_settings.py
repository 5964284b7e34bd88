from __future__ import annotations

import pytest

from bus.errors import SettingError
from bus.settings import Environment
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
