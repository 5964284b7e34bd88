"""Telling the service manager."""

from __future__ import annotations

import secrets
import socket
from contextlib import closing
from pathlib import Path

import pytest

from bus.runtime.process import notify_ready
from tests.support.wait import patience


def heard(address: str) -> bytes:
    """What comes to ``address`` when a process says that it is ready."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(address)
        manager.settimeout(patience(5))
        notify_ready()
        return manager.recv(100)


def test_a_socket_in_the_abstract_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"chatbus-test-{secrets.token_hex(8)}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    assert heard(f"\0{name}") == b"READY=1"


def test_a_path_may_have_an_at_sign(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "chat@1"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    assert heard(str(path)) == b"READY=1"


def test_without_a_manager_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify_ready()
