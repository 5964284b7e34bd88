"""The embedded MongoDB is open to its owner alone."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from errno import EACCES
from pathlib import Path
from urllib.parse import quote

import psutil
import pymongo
import pytest

from deploy.local import data_folder, embedded
from deploy.local.child import Child
from deploy.local.data_folder import DataFolder
from tests.support.wait import patience, wait_until

NOBODY = 65_534


def start(server: Child) -> None:
    """Returns when it has said READY."""
    server.start()
    server.notifications.settimeout(patience(30))
    server.notified()
    assert server.ready


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Child, Path]]:
    """The server, and its socket in a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        address = Path(name, "mongo.sock")
        server = Child(embedded._mongo(Path(name, "mongo"), address))
        start(server)
        yield server, address
        server.kill()
        wait_until(server.has_exited, what="the server is gone")
        server.close()


def url_of(address: Path) -> str:
    return f"mongodb://{quote(str(address), safe='')}/chat?directConnection=true"


def error_of_nobody(address: Path) -> int:
    """What a process of another user gets that connects to ``address``; 0 if nothing."""
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os._exit(socket.socket(socket.AF_UNIX).connect_ex(str(address)))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_its_owner_reads_and_writes(served: tuple[Child, Path]) -> None:
    _, address = served
    with pymongo.MongoClient(url_of(address)) as client:
        client.chat.messages.insert_one({"_id": "1", "body": "hi"})
        assert client.chat.messages.find_one({"_id": "1"}) == {"_id": "1", "body": "hi"}


def test_no_other_user_gets_in(served: tuple[Child, Path]) -> None:
    server, address = served
    assert address.stat().st_mode & 0o077 == 0
    assert psutil.Process(server.pid).net_connections("inet") == []
    if os.geteuid() == 0:
        assert error_of_nobody(address) == EACCES
        os.chmod(address, 0o666)
        assert error_of_nobody(address) == 0, "it is the socket's mode that keeps others out"
        os.chmod(address, 0o700)


def test_a_killed_one_starts_again_on_its_socket(served: tuple[Child, Path]) -> None:
    server, address = served
    server.kill()
    wait_until(server.has_exited, what="the server is gone")
    assert address.exists()
    start(server)
    with pymongo.MongoClient(url_of(address)) as client:
        assert client.chat.messages.find_one({"_id": "1"}), "what was written before"


@pytest.mark.parametrize("name", ["x" * 100, "caf\udce9"], ids=["long", "not UTF-8"])
def test_where_a_path_cannot_be_a_socket_a_private_folder_is_made(
    tmp_path: Path, name: str
) -> None:
    with DataFolder(tmp_path / "data") as folder:
        assert folder.socket("s") == tmp_path / "data" / "s"
    with DataFolder(tmp_path / name) as folder:
        address = folder.socket("mongo.sock")
        assert len(str(address).encode()) <= data_folder.LONGEST_SOCKET
        assert stat.S_IMODE(address.parent.stat().st_mode) == 0o700
    assert not address.parent.exists()
