"""Static files with a hash of the content in their names, compressed, and cached for ever."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.http import HttpRequest, HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage

PREFIX = "chatbus-static-"
YOUNG_SECONDS = 60.0


class HashedFiles(CompressedManifestStaticFilesStorage):
    """The static files of all apps, in a folder that the process fills at first use.

    So there is no build step to forget, and a folder never holds files of another release. A
    module imports the others by their hashed names, too.
    """

    support_js_module_import_aggregation = True

    def __init__(self) -> None:
        super().__init__(location=_own_folder())
        self._collect()

    def _collect(self) -> None:
        """What Django's ``collectstatic`` does. Raises what is wrong with a file."""
        found = {}
        for finder in get_finders():
            for path, source in finder.list(None):
                if path not in found:
                    with source.open(path) as file:
                        self.save(path, file)
                    found[path] = (self, path)
        for _, _, outcome in self.post_process(found):
            if isinstance(outcome, Exception):
                raise outcome


class StaticFiles(WhiteNoiseMiddleware):
    """Serves them; in place of a file of another release, the one of this release.

    While two releases run side by side, a page of one may ask the other for its files.
    """

    def __init__(self, get_response: object) -> None:
        super().__init__(get_response)
        if not self.autorefresh:
            self.add_files(staticfiles_storage.location, prefix=self.static_prefix)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if self.autorefresh:
            return super().__call__(request)
        path = request.path_info
        file = self.files.get(path) or self.files.get(self.get_name_without_hash(path))
        return self.serve(file, request) if file else self.get_response(request)


def _own_folder() -> str:
    """A temporary folder that goes when the process, not a fork of it, ends.

    The process holds a lock on it. Programs that clean up old temporary files leave a locked
    folder alone (tmpfiles.d(5)), and one without a lock was left by a process that was killed.
    """
    _remove_left_ones()
    folder = tempfile.mkdtemp(prefix=PREFIX)
    fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder)


def _remove_left_ones() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
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
