"""The WSGI application (PEP 3333); the web server and the request workers run it."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.project.settings")
application = get_wsgi_application()
# Loads every view: what a bad setting breaks is broken now, not in the first request.
get_resolver().url_patterns  # noqa: B018
