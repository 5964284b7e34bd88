"""The Django app of the accounts."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "webapp.accounts"

    def ready(self) -> None:
        """Connects the receivers of signals."""
        import_module("webapp.accounts.sessions")
