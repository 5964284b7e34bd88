"""The WSGI application (PEP 3333), which the web process and the request workers run."""

from __future__ import annotations

from importlib import import_module

from django.core.handlers.wsgi import WSGIHandler

from webapp.project import setup


def _application() -> WSGIHandler:
    """Imports every view first, so that a bad setting fails here, not in the first request."""
    setup()
    import_module("webapp.project.urls")
    return WSGIHandler()


application = _application()
