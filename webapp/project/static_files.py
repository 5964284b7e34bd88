"""Static files with a hash of the content in their names, compressed, and cached for ever."""

from __future__ import annotations

from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.http import HttpRequest, HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage

from webapp.project.own_folder import own_folder


class HashedFiles(CompressedManifestStaticFilesStorage):
    """The static files of all apps, in a folder that the process fills at first use.

    So there is no build step to forget, and a folder never holds files of another release. A
    module imports the others by their hashed names, too.
    """

    support_js_module_import_aggregation = True

    def __init__(self) -> None:
        super().__init__(location=own_folder("chatbus-static-"))
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
