from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from bus.errors import SettingError
from bus.runtime.settings import Environment
from bus.runtime.settings.urls import RULES
from bus.ticket import KeySet
from tests.support.certificates import Authority


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
    "url",
    ["", "localhost:5672", "http://x", "amqp://ok;http://not-ok", "amqp", "amqp://a;amqps://b"],
)
def test_a_bad_url_names_variable_and_schemes(url: str) -> None:
    with pytest.raises(SettingError, match="BROKER_URL"):
        Environment({"BROKER_URL": url}).broker_url()


def test_several_hosts_are_accepted() -> None:
    urls = "amqp://a//;amqp://b//"
    assert Environment({"BROKER_URL": urls}).broker_url() == urls


@pytest.mark.parametrize(
    "keys", ["", "short:secret", "no-colon", ":" + "x" * 32, f"a:{'x' * 32},a:{'y' * 32}"]
)
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


@pytest.mark.parametrize("character", ["/", "/1/", "@", "?", "1?", "#", "1#", ":", ";", " ", ","])
@pytest.mark.parametrize(
    ("name", "scheme"),
    [(name, each) for name, rules in RULES.items() for each in rules.schemes if each != "sqlite"],
)
def test_the_error_does_not_tell_the_password(name: str, scheme: str, character: str) -> None:
    """Where a character is not quoted, a part of the password looks like something else."""
    for url in (
        f"{scheme}://chat:hunt{character}er2@h/1",
        f"{scheme}://chat:1{character}hunter2=hunter2@h/1",
        f"{scheme}://chat:hunter2@h/1?x={character}hunter2",
        f"{scheme}://chat:hunter2@h/1;{scheme}://chat:hunter2@h2/1",
        f"{scheme}://chat:hunter2@h:port/1",
    ):
        problem = _problem_of(name, url)
        assert "hunt" not in problem
        assert "er2" not in problem


def _problem_of(name: str, url: str) -> str:
    try:
        Environment({name: url}).url(name)
    except SettingError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("name", "url"),
    [
        *(("BROKER_URL", f"{scheme}://h/1?bar=2") for scheme in ("amqp", "redis")),
        *(("BROKER_URL", f"{scheme}://h/1?bar=2") for scheme in ("amqps", "rediss")),
        *(("REDIS_URL", url) for url in ("redis://h/0?bar=1", "unix:///r.sock?bar=0")),
        *(("MONGO_URL", url) for url in ("mongodb://h/db?bar=1", "mongodb+srv://h/?bar")),
        ("DATABASE_URL", "mysql://h/d?bar=1"),
        ("DATABASE_URL", "sqlite:///file?bar=1"),
        ("BROKER_API_URL", "http://h:15672/?bar=1"),
    ],
)
def test_an_unknown_option_is_refused_by_its_name(name: str, url: str) -> None:
    with pytest.raises(SettingError, match=rf"{name}: has an option 'bar', which is not known; "):
        Environment({name: url}).url(name)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("BROKER_URL", "amqps://h/?verify=verify_none"),
        ("BROKER_URL", "rediss://h/0?ssl_cert_reqs=none"),
        ("REDIS_URL", "rediss://h/0?ssl_check_hostname=false"),
        ("MONGO_URL", "mongodb://h/?tls=true&tlsAllowInvalidCertificates=true"),
        ("MONGO_URL", "mongodb://h/?TLSINSECURE=true"),
        ("DATABASE_URL", "mysql://h/d?ssl_mode=REQUIRED"),
    ],
)
def test_no_option_turns_verification_off(name: str, url: str) -> None:
    with pytest.raises(SettingError, match=r"certificates are always verified, .*TLS_CA_FILE"):
        Environment({name: url}).url(name)


@pytest.mark.parametrize("option", ["tls=maybe", "tls=1", "SSL=yes", "tls="])
def test_mongodb_does_not_connect_without_tls_by_a_slip(option: str) -> None:
    with pytest.raises(SettingError, match=r"MONGO_URL: .*accepted are true and false"):
        Environment({"MONGO_URL": f"mongodb://h/?{option}"}).mongo_url()


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_URL", "redis://:p@a/0;redis://:p@b/0"),
        ("REDIS_URL", "redis://:p@a,b/0"),
        ("MONGO_URL", "mongodb://a/;mongodb://b/"),
        ("DATABASE_URL", "mysql://u:p@a/d;mysql://u:p@b/d"),
        ("DATABASE_URL", "mysql://u:p@a,b/d"),
    ],
)
def test_several_hosts_are_refused_where_only_one_would_be_used(name: str, url: str) -> None:
    with pytest.raises(SettingError, match=rf"{name}: .*accepted"):
        Environment({name: url}).url(name)


def test_several_management_apis_are_accepted() -> None:
    urls = "http://a:15672;http://b:15672/rabbit"
    assert Environment({"BROKER_API_URL": urls}).broker_api_url() == urls


@pytest.mark.parametrize(
    ("name", "url", "read"),
    [
        ("BROKER_URL", "amqps://h", "amqps://h/?cacertfile={}"),
        (
            "BROKER_URL",
            "amqps://a/v;amqps://b/v",
            "amqps://a/v?cacertfile={0};amqps://b/v?cacertfile={0}",
        ),
        ("BROKER_URL", "rediss://h/1", "rediss://h/1?ssl_ca_certs={}"),
        ("BROKER_API_URL", "https://h:15671", "https://h:15671/?cacertfile={}"),
        ("REDIS_URL", "rediss://h/0?db=1", "rediss://h/0?db=1&ssl_ca_certs={}"),
        ("MONGO_URL", "mongodb://h/c?TLS=true", "mongodb://h/c?TLS=true&tlsCAFile={}"),
        ("MONGO_URL", "mongodb+srv://h", "mongodb+srv://h/?tlsCAFile={}"),
        (
            "DATABASE_URL",
            "mysql://h/d?ssl_mode=VERIFY_IDENTITY",
            "mysql://h/d?ssl_mode=VERIFY_IDENTITY&ssl-ca={}",
        ),
    ],
)
def test_authorities_are_added_to_what_goes_by_tls(
    name: str, url: str, read: str, authorities: str
) -> None:
    settings = {name: url, "TLS_CA_FILE": authorities}
    assert Environment(settings).url(name) == read.format(quote(authorities, safe=""))


@pytest.mark.parametrize(
    ("name", "url"),
    [
        *(("BROKER_URL", "amqp://h/"), ("REDIS_URL", "redis://h"), ("MONGO_URL", "mongodb://h")),
        ("DATABASE_URL", "mysql://u:p@h/d"),
        ("REDIS_URL", "rediss://h/0?ssl_ca_certs=/its/own.pem"),
    ],
)
def test_other_urls_stay_as_they_are(name: str, url: str, authorities: str) -> None:
    assert Environment({name: url, "TLS_CA_FILE": authorities}).url(name) == url


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_file_without_authorities_is_refused(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingError, match=r"TLS_CA_FILE: .*/ca.pem.*in PEM"):
        Environment({"TLS_CA_FILE": str(file)}).ca_file()


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(Authority(tmp_path_factory.mktemp("authority")).file)


@pytest.mark.parametrize(
    "url",
    [
        *("redis://h", "redis://h/", "redis://:p%2F@h:1/15?db=1", "rediss://[::1]:6379/0"),
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
