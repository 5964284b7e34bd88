"""Temporary folders that go when the process, not a fork of it, ends."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

YOUNG_SECONDS = 60.0


def own_folder(prefix: str) -> str:
    """A temporary folder whose name begins with ``prefix``.

    The process holds a lock on it. Programs that clean up old temporary files leave a locked
    folder alone (tmpfiles.d(5)), and one without a lock was left by a process that was killed.
    """
    _remove_left_ones(prefix)
    folder = tempfile.mkdtemp(prefix=prefix)
    fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder)


def _remove_left_ones(prefix: str) -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        # It is in use, another user's, or another process has just removed it.
        with suppress(BlockingIOError, PermissionError, FileNotFoundError):
            _remove_if_left(folder)


def _remove_if_left(folder: Path) -> None:
    """Raises OSError. A young folder may not have its lock yet."""
    found = folder.stat()
    if found.st_uid != os.getuid() or time.time() - found.st_mtime < YOUNG_SECONDS:
        return
    lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(lock)
