"""Origins, hosts and addresses: each becomes what browsers and sockets send, or is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bus.errors import SettingError
from bus.runtime.settings import Environment, hosts


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://Chat.Example.org", "https://chat.example.org"),
        ("HTTPS://chat.example.org/", "https://chat.example.org"),
        ("https://chat.example.org:443", "https://chat.example.org"),
        ("http://chat.example.org:80/", "http://chat.example.org"),
        ("https://chat.example.org:80", "https://chat.example.org:80"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("https://straße.example", "https://xn--strae-oqa.example"),
        ("https://BÜCHER.example", "https://xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("http://[0:0::1]:8000", "http://[::1]:8000"),
        ("http://[::ffff:127.0.0.1]", "http://[::ffff:7f00:1]"),
        ("http://a_b.local", "http://a_b.local"),
    ],
)
def test_an_origin_becomes_what_browsers_send(given: str, sent: str) -> None:
    assert Environment({"ALLOWED_ORIGINS": f"{given},{sent}"}).origins() == (sent,)


@pytest.mark.parametrize(
    "origin",
    [
        *("chat.example.org", "*", "https://*.example.org", "null", "ftp://chat.example.org"),
        *("https://chat.example.org/chat", "https://chat.example.org?a", "https://u@h"),
        *("https://", "https://:443", "https://h:0", "https://h:99999", "https://a b"),
        *("https://127.1", "https://1.2.3.256", "https://[::1", "https://[fe80::1%eth0]"),
        *("https://xn--zz.example", "https://-.example", "https://a..b", "https://h#x"),
    ],
)
def test_what_no_browser_sends_is_refused_by_its_name(origin: str) -> None:
    with pytest.raises(SettingError) as raised:
        Environment({"ALLOWED_ORIGINS": f"https://a.example,{origin}"}).origins()
    assert str(raised.value).startswith(f"ALLOWED_ORIGINS: {origin!r} ")
    assert "accepted is an origin such as https://" in str(raised.value)


@pytest.mark.parametrize(
    ("given", "compared"),
    [
        *(("*", "*"), ("EXAMPLE.org.", "example.org"), (".Example.org", ".example.org")),
        *(("::1", "[::1]"), ("[0::1]", "[::1]"), ("bücher.example", "xn--bcher-kva.example")),
    ],
)
def test_an_allowed_host_becomes_what_is_compared(given: str, compared: str) -> None:
    assert Environment({"ALLOWED_HOSTS": given}).allowed_hosts() == (compared,)


def test_by_default_this_machine_is_allowed_by_each_of_its_names() -> None:
    assert Environment({}).allowed_hosts() == ("127.0.0.1", "localhost", "[::1]")


@pytest.mark.parametrize("host", ["h:80", "http://h", "*.h", "h/", "[::1]:80", ".", "a b"])
def test_a_host_that_never_matches_is_refused(host: str) -> None:
    with pytest.raises(SettingError, match=r"ALLOWED_HOSTS: .*accepted is a host name"):
        Environment({"ALLOWED_HOSTS": host}).allowed_hosts()


@pytest.mark.parametrize(
    ("read", "given", "compared"),
    [
        (hosts.ip_address, "0:0::1", "::1"),
        (hosts.ip_address, "[2001:DB8::1]", "2001:db8::1"),
        (hosts.ip_address, "::ffff:10.0.0.1", "10.0.0.1"),
        (hosts.ip_network, "10.0.0.0/8", "10.0.0.0/8"),
        (hosts.ip_network, "2001:DB8::/32", "2001:db8::/32"),
    ],
)
def test_addresses_have_one_spelling(read: Callable[[str], str], given: str, compared: str) -> None:
    assert read(given) == compared


@pytest.mark.parametrize("networks", [True, False])
@pytest.mark.parametrize("word", ["proxy.internal", "*", "10.0.0.1/8", "10.0.0", "010.0.0.1"])
def test_an_address_that_never_matches_is_refused(word: str, networks: bool) -> None:
    with pytest.raises(SettingError, match=r"PROXIES: .*accepted is an IP address"):
        Environment({"PROXIES": f"10.0.0.1,{word}"}).proxies("PROXIES", networks=networks)


def test_the_bridge_compares_addresses_one_by_one() -> None:
    with pytest.raises(SettingError, match=r"PROXIES: '10.0.0.0/8' is not an IP address"):
        Environment({"PROXIES": "10.0.0.0/8"}).proxies("PROXIES", networks=False)
