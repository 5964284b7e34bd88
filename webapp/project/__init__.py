"""The Django project: settings, URLs, the HTTP server, and what all apps share."""

from __future__ import annotations

import os


def setup() -> None:
    """Loads Django with the settings of this project; to call before any model is imported."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.project.settings")
    import django

    django.setup()
