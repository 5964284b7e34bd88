from __future__ import annotations

import fcntl
import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.test import Client

from tests.unit.webapp.conftest import SETTINGS

HASHED = re.compile(r"/static/[\w/-]+\.[0-9a-f]{12}\.(?:js|css|svg)")
IMPORTED = re.compile(r"""from "\./([^"]+)";""")
MODULE = "chat/room.js"
LIVES = """
import os, pathlib, sys
import django
django.setup()
from django.contrib.staticfiles.storage import staticfiles_storage
folder = pathlib.Path(staticfiles_storage.location)
if os.fork() == 0:
    sys.exit()
os.wait()
print(folder, (folder / "staticfiles.json").exists())
"""


def plain(path: str) -> bytes:
    return Path(finders.find(path)).read_bytes()


@pytest.mark.django_db
def test_a_page_names_files_that_never_change(client: Client, room: tuple) -> None:
    owner, path = room
    page = owner.get(path.removeprefix("/api") + "/").content.decode()
    named = re.findall(r'"(/static/[^"]+)"', page)
    assert len(named) >= 4
    for address in named:
        assert HASHED.fullmatch(address), address
        response = client.get(address)
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "max-age=315360000, public, immutable"


def test_a_module_imports_others_by_names_that_never_change(client: Client) -> None:
    """Else a browser would run this release's module with others of the release before."""
    left, seen = {staticfiles_storage.url(MODULE)}, set()
    while left:
        address = left.pop()
        seen.add(address)
        assert HASHED.fullmatch(address), address
        module = client.get(address).getvalue().decode()
        left |= {f"/static/chat/{name}" for name in IMPORTED.findall(module)} - seen
    assert len(seen) > len(IMPORTED.findall(plain(MODULE).decode()))


def test_browsers_that_take_gzip_get_it(client: Client) -> None:
    response = client.get(staticfiles_storage.url("chat/chat.css"), HTTP_ACCEPT_ENCODING="gzip")
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(response.getvalue()) == plain("chat/chat.css")


@pytest.mark.parametrize("name", ["room.js", "room.0123456789ab.js"])
def test_a_plain_name_and_one_of_another_release_get_this_release(
    client: Client, name: str
) -> None:
    """A page of the release before must work while a process of the next one serves its files."""
    response = client.get(f"/static/chat/{name}")
    assert (response.status_code, response.getvalue()) == (200, plain(MODULE))
    assert response.headers["Content-Type"].startswith("text/javascript")
    assert response.headers["Cache-Control"] == "max-age=60, public"


@pytest.mark.parametrize("name", ["nothing.js", "room.js/", "../chat/room.js", "room.js.0123.gz"])
@pytest.mark.django_db
def test_there_is_nothing_else(client: Client, name: str) -> None:
    assert client.get(f"/static/chat/{name}").status_code == 404


def use_static_files(folder: Path) -> tuple[Path, str]:
    """The folder that a process fills, in ``folder``, and whether it outlives the end of a fork."""
    run = subprocess.run(
        [sys.executable, "-c", LIVES],
        env={**os.environ, **SETTINGS, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    filled, is_there = run.stdout.split()
    return Path(filled), is_there


def test_the_folder_goes_with_the_process_and_not_with_a_fork_of_it(tmp_path: Path) -> None:
    filled, is_there = use_static_files(tmp_path)
    assert is_there == "True"
    assert filled.parent == tmp_path
    assert not filled.exists()


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    left, held, young = (tmp_path / f"chatbus-static-{name}" for name in ("left", "held", "young"))
    for folder in (left, held, young):
        folder.mkdir()
        (folder / "file").touch()
    for folder in (left, held):
        os.utime(folder, (0, 0))
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    use_static_files(tmp_path)
    os.close(lock)
    assert set(tmp_path.iterdir()) == {held, young}
