"""The Django app of the project: base templates, static files, and logging of refusals."""

from __future__ import annotations

import logging

from django.apps import AppConfig

# Django logs a traceback for each request that it refuses, so that anyone could fill the log.
REFUSALS = ("DisallowedHost", "RequestDataTooBig", "TooManyFieldsSent", "TooManyFilesSent")


class ProjectConfig(AppConfig):
    """Has no models; it is registered for its base templates and static files."""

    name = "webapp.project"

    def ready(self) -> None:
        for refusal in REFUSALS:
            logging.getLogger(f"django.security.{refusal}").addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True
