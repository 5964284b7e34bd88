"""Real Redis, MariaDB and MongoDB-compatible servers, each on free ports in a folder of its own.

    with Redis() as redis:
        use(redis.url)
        redis.kill()
        redis.start()

Nothing is shared with servers that run already, and nothing survives the test run, even when
that is killed.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from deploy.local.child import Child, Program
from deploy.local.embedded import wheel_redis
from tests.support.ports import HOST, free_port, is_open
from tests.support.wait import patience, wait_until

START_SECONDS = 60.0
STOP_SECONDS = 20.0
PASSWORD = "only-for-tests"


class ServerMissing(Exception):
    """A server program is not installed."""


def executable(name: str, *folders: str) -> str:
    """The path of a server program. Raises ServerMissing."""
    path = os.pathsep.join([*folders, *os.get_exec_path(), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if not found:
        raise ServerMissing(name)
    return found


class Server(ABC):
    """A server process that a test may kill and start again on the same port and data."""

    def __init__(self) -> None:
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="chatbus-test-")
        self.folder = Path(self._folder.name)
        self._child: Child | None = None

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def program(self) -> Program:
        """How to run it; called once, before the first start."""

    def answers(self) -> bool:
        return is_open(self.port)

    @property
    def pid(self) -> int:
        assert self._child
        return self._child.pid

    def __enter__(self) -> Self:
        try:
            self._child = Child(replace(self.program(), answers=self.answers))
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        assert self._child
        self._child.start()
        wait_until(self._is_up, START_SECONDS, f"{type(self).__name__} answers")

    def kill(self) -> None:
        """SIGKILL, and returns when the process is gone."""
        assert self._child
        self._child.kill()
        wait_until(self._is_gone, STOP_SECONDS, f"{type(self).__name__} is killed")

    def stop(self) -> None:
        """SIGTERM, and returns when the process is gone."""
        assert self._child
        self._child.terminate()
        wait_until(self._is_gone, STOP_SECONDS, f"{type(self).__name__} stops")

    def close(self) -> None:
        if self._child:
            if self._child.running:
                self.kill()
            self._child.close()
        self._folder.cleanup()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Killed while the block runs; proves that nobody answers."""
        self.kill()
        try:
            assert not self.answers()
            yield
            assert not self.answers()
        finally:
            self.start()

    def _is_up(self) -> bool:
        if self._is_gone():
            log = (self.folder / "log").read_text(errors="replace")
            raise AssertionError(f"{type(self).__name__} ended at its start:\n{log[-2000:]}")
        return self.answers()

    def _is_gone(self) -> bool:
        assert self._child
        self._child.has_exited()
        return not self._child.running


class Redis(Server):
    """With the append-only file on, so that a killed server keeps what it took."""

    _databases = itertools.count(1)

    @property
    def url(self) -> str:
        return self.database(0)

    def database(self, number: int) -> str:
        return f"redis://:{PASSWORD}@{HOST}:{self.port}/{number}"

    def fresh_database(self) -> str:
        """The URL of a database that nobody has used."""
        return self.database(next(self._databases))

    def program(self) -> Program:
        settings = {
            "bind": HOST,
            "port": self.port,
            "requirepass": PASSWORD,
            "dir": self.folder,
            "appendonly": "yes",
            # Else a slow disk delays the write to the file, and a kill loses what was answered.
            "appendfsync": "always",
            "save": "",
            "databases": 1_000,
        }
        arguments = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        server = shutil.which("redis-server") or wheel_redis()
        if not server:
            raise ServerMissing("redis-server")
        command = (server, *arguments)
        return Program("redis", command, log=self.folder / "log")

    def answers(self) -> bool:
        """PING is refused while the server still reads its file."""
        try:
            with socket.create_connection((HOST, self.port), 1.0) as connection:
                connection.sendall(f"AUTH {PASSWORD}\r\nPING\r\nQUIT\r\n".encode())
                return b"+PONG" in b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            return False


class Mongo(Server):
    """nx-27017: MongoDB's wire protocol on SQLite files, one per database."""

    _databases = itertools.count(1)

    @property
    def url(self) -> str:
        return self.database("chat")

    def database(self, name: str) -> str:
        return f"mongodb://{HOST}:{self.port}/{name}?directConnection=true"

    def fresh_database(self) -> str:
        return self.database(f"test{next(self._databases)}")

    def program(self) -> Program:
        data = self.folder / "data"
        data.mkdir()
        server = executable("nx-27017", str(Path(sys.executable).parent))
        command = (server, "--host", HOST, "--port", str(self.port), "--data-dir", str(data))
        files = ("--log-file", str(self.folder / "nx"), "--pid-file", str(self.folder / "pid"))
        return Program("mongo", (*command, *files), log=self.folder / "log")


class Secantus(Mongo):
    """SecantusDB: MongoDB 8.2's wire protocol on WiredTiger, with MongoDB's fail points.

    (https://github.com/mongodb/mongo/wiki/The-%22failCommand%22-fail-point)
    """

    def database(self, name: str) -> str:
        """Its clients ask again at once, instead of waiting for news, whether it is primary."""
        return f"{super().database(name)}&serverMonitoringMode=poll"

    def program(self) -> Program:
        server = executable("secantusd-py", str(Path(sys.executable).parent))
        data = str(self.folder / "data")
        place = ("--host", HOST, "--port", str(self.port), "--storage-path", data)
        command = (server, *place, "--enable-test-commands")
        return Program("secantus", command, log=self.folder / "log")


class MariaDB(Server):
    """utf8mb4, with the user ``chatbus``, who may make databases."""

    _databases = itertools.count(1)

    @property
    def url(self) -> str:
        return self.database("chatbus")

    def database(self, name: str) -> str:
        return f"mysql://chatbus:{PASSWORD}@{HOST}:{self.port}/{name}"

    def fresh_database(self) -> str:
        name = f"test{next(self._databases)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.database(name)

    def execute(self, sql: str) -> str:
        """Runs ``sql`` as root and returns what the client prints."""
        client = executable("mariadb")
        command = [client, "--no-defaults", f"--socket={self._socket}", "--user=root", "-N"]
        return subprocess.run(
            [*command, "-e", sql], check=True, capture_output=True, text=True, timeout=30
        ).stdout

    def connections(self) -> set[str]:
        """The ids of the connections of the user ``chatbus``."""
        sql = "SELECT id FROM information_schema.processlist WHERE user = 'chatbus'"
        return set(self.execute(sql).split())

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self.execute("SET GLOBAL read_only = 1")
        try:
            yield
        finally:
            self.execute("SET GLOBAL read_only = 0")

    def answers(self) -> bool:
        return self._socket.exists() and is_open(self.port)

    @property
    def _socket(self) -> Path:
        return self.folder / "socket"

    def program(self) -> Program:
        server = executable("mariadbd")
        if not importlib.util.find_spec("MySQLdb"):
            raise ServerMissing("mysqlclient")
        # A MariaDB that starts deletes the temporary tables of every other one in its tmpdir.
        place = [f"--datadir={self.folder / 'data'}", f"--tmpdir={self.folder}"]
        if os.geteuid() == 0:
            place.append("--user=root")
        self._install(place)
        start = self.folder / "start.sql"
        start.write_text(
            "CREATE DATABASE IF NOT EXISTS chatbus;\n"
            f"CREATE USER IF NOT EXISTS chatbus@'%' IDENTIFIED BY '{PASSWORD}';\n"
            # Of databases alone: an administrator may write to a read-only server.
            "GRANT ALL ON `%`.* TO chatbus@'%';\n"
        )
        options = {
            "socket": self._socket,
            "port": self.port,
            "bind-address": HOST,
            "pid-file": self.folder / "pid",
            "init-file": start,
            "character-set-server": "utf8mb4",
            "collation-server": "utf8mb4_unicode_ci",
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        command = (server, "--no-defaults", *place, *arguments)
        return Program("mariadb", command, log=self.folder / "log")

    def _install(self, arguments: list[str]) -> None:
        installer = executable("mariadb-install-db")
        command = [installer, "--no-defaults", "--skip-test-db", *arguments]
        subprocess.run(
            [*command, "--auth-root-authentication-method=normal"],
            check=True,
            stdout=subprocess.DEVNULL,  # its advice to a newcomer; what fails is told on stderr
            timeout=patience(120),
        )
