"""The Django app of the project: base templates, static files, and what Django logs."""

from __future__ import annotations

import logging
from http import HTTPStatus

from django.apps import AppConfig

# Django logs a traceback for each request that it refuses, so that anyone could fill the log.
REFUSALS = ("DisallowedHost", "RequestDataTooBig", "TooManyFieldsSent", "TooManyFilesSent")


class ProjectConfig(AppConfig):
    """Has no models; it is registered for its base templates and static files."""

    name = "webapp.project"

    def ready(self) -> None:
        for refusal in REFUSALS:
            logging.getLogger(f"django.security.{refusal}").addFilter(_without_traceback)
        logging.getLogger("django.request").addFilter(_is_not_logged_elsewhere)


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True


def _is_not_logged_elsewhere(record: logging.LogRecord) -> bool:
    """A 503 is logged with its reason where it is made (see outages.py and health.py)."""
    return getattr(record, "status_code", None) != HTTPStatus.SERVICE_UNAVAILABLE
