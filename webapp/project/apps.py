"""Django's hook for what is set up once per process."""

from __future__ import annotations

import logging

from django.apps import AppConfig

# Requests that Django itself refuses: it logs each with a traceback, which anybody can ask for.
REFUSALS = ("DisallowedHost", "RequestDataTooBig", "TooManyFieldsSent", "TooManyFilesSent")


class ProjectConfig(AppConfig):
    """Registered for its base templates and static files; it has no models."""

    name = "webapp.project"

    def ready(self) -> None:
        for refusal in REFUSALS:
            logging.getLogger(f"django.security.{refusal}").addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True
