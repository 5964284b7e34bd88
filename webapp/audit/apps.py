"""The Django app of the audit log."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "webapp.audit"

    def ready(self) -> None:
        """Connects the receivers of signals."""
        import_module("webapp.audit.signals")
