"""The bridge's settings, and what is none."""

from __future__ import annotations

import resource

import pytest

from bridge.limits import Limits
from bridge.settings import OTHER_FILES, BridgeSettings
from bus.errors import SettingError
from bus.runtime.settings import Environment


def read(**values: str) -> BridgeSettings:
    required = {
        "ALLOWED_ORIGINS": "http://chat.test",
        "REDIS_URL": "redis://localhost",
        "TICKET_KEYS": "k:a-secret-of-32-characters-or-more",
    }
    return BridgeSettings.from_environment(Environment(required | values))


@pytest.mark.parametrize("bits", ["1", "8", "16", "yes"])
def test_a_window_that_there_is_not_is_refused(bits: str) -> None:
    with pytest.raises(SettingError, match=r"BRIDGE_COMPRESSION.*accepted"):
        read(BRIDGE_COMPRESSION=bits)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    return monkeypatch


@pytest.mark.parametrize("most", [300, 1_024, 20_500, 2**20, resource.RLIM_INFINITY])
def test_all_connections_together_fit_into_the_open_files(
    most: int, files: pytest.MonkeyPatch
) -> None:
    files.setattr(resource, "getrlimit", lambda _: (most, most))
    limits = read().limits
    assert limits.sockets >= 80
    assert most in (2**20, resource.RLIM_INFINITY) or (
        limits.sockets + limits.turned_away + OTHER_FILES <= most
    )
    assert limits.sockets <= Limits().sockets


def test_too_few_open_files_are_an_error(files: pytest.MonkeyPatch) -> None:
    files.setattr(resource, "getrlimit", lambda _: (128, 200))
    with pytest.raises(SettingError, match=r"BRIDGE_SOCKETS.*200 open files.*accepted are 250"):
        read()


def test_origins_and_proxies_are_kept_in_the_form_that_is_compared() -> None:
    settings = read(ALLOWED_ORIGINS="HTTPS://Chat.test:443/", BRIDGE_TRUSTED_PROXIES="0::1")
    assert (settings.origins, settings.proxies) == (("https://chat.test",), ("::1",))


@pytest.mark.parametrize(
    ("name", "value"), [("ALLOWED_ORIGINS", "chat.test"), ("BRIDGE_TRUSTED_PROXIES", "10.0.0.0/8")]
)
def test_what_would_never_match_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}: '{value}' "):
        read(**{name: value})
