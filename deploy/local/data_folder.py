"""The folder of one ``chatbus up``: its lock, secrets, settings and process ids."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from bus.errors import SettingError

LOCK = "lock"
SETTINGS = "environment"
SECRETS = "secrets"
PROCESSES = "processes.json"
# Bytes in the path of a Unix socket; Linux takes 107 (unix(7)), macOS 103.
LONGEST_SOCKET = 103


class DataFolder:
    """A data folder held by this process: no other can open it until it is closed.

    Raises SettingError when another process holds it, or when it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._temporary: TemporaryDirectory[str] | None = None
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SettingError("--data", f"cannot use {path}: {error.strerror}") from error
        self._hold()

    def __enter__(self) -> DataFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def secrets(self) -> dict[str, str]:
        """Passwords and keys, made the first time."""
        path = self.path / SECRETS
        if not path.exists():
            made = {
                "SECRET_KEY": secrets.token_urlsafe(48),
                "TICKET_KEYS": f"{secrets.token_hex(4)}:{secrets.token_urlsafe(48)}",
                "REDIS_PASSWORD": secrets.token_urlsafe(32),
            }
            write_private(path, format_settings(made))
        return parse_settings(_read(path))

    def socket(self, name: str) -> Path:
        """Where a Unix socket may be: in the folder, unless a socket cannot have so long a path
        or its URL would not have the path's bytes; then in a temporary one, for its owner alone.
        """
        path = self.path / name
        if _fits_a_socket(path):
            return path
        self._temporary = TemporaryDirectory(prefix="chatbus-")
        return Path(self._temporary.name) / name

    def write_settings(self, settings: Mapping[str, str]) -> None:
        """Lets ``--data`` of the other commands find the running servers."""
        write_private(self.path / SETTINGS, format_settings(settings))

    def write_processes(self, pids: Mapping[str, int]) -> None:
        write_private(self.path / PROCESSES, json.dumps(pids, indent=1) + "\n")

    def close(self) -> None:
        (self.path / SETTINGS).unlink(missing_ok=True)
        (self.path / PROCESSES).unlink(missing_ok=True)
        if self._temporary:
            self._temporary.cleanup()
        os.close(self._lock)

    def _hold(self) -> None:
        if not _try_lock(self._lock):
            holder = os.pread(self._lock, 32, 0).decode().strip()
            os.close(self._lock)
            raise SettingError(
                "--data",
                f"{self.path} is in use by another chatbus up, process {holder}; "
                "stop it or give another folder",
            )
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)


def running_settings(path: Path) -> dict[str, str]:
    """The settings of the ``chatbus up`` that runs on ``path``.

    Raises SettingError when none does.
    """
    try:
        settings = parse_settings(_read(path / SETTINGS))
        lock = os.open(path / LOCK, os.O_RDWR)
    except OSError:
        raise _nothing_runs(path) from None
    try:
        if _try_lock(lock):
            raise _nothing_runs(path)
    finally:
        os.close(lock)
    return settings


def format_settings(settings: Mapping[str, str]) -> str:
    """Lines of ``NAME=value``, as env files have them."""
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def parse_settings(text: str) -> dict[str, str]:
    """The inverse of ``format_settings``."""
    return dict(line.split("=", 1) for line in text.splitlines() if line)


def write_private(path: Path, text: str) -> None:
    """Replaces the file in one step; only its owner may read it."""
    fresh = path.with_name(f"{path.name}.new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(os.fsencode(text))
    fresh.replace(path)


def _read(path: Path) -> str:
    """What ``write_private`` wrote: paths in it have the bytes that the file system has."""
    return os.fsdecode(path.read_bytes())


def _fits_a_socket(path: Path) -> bool:
    try:
        return len(str(path).encode()) <= LONGEST_SOCKET
    except UnicodeEncodeError:
        return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _nothing_runs(path: Path) -> SettingError:
    return SettingError("--data", f"no chatbus up runs on {path}; start one: chatbus up --data DIR")
