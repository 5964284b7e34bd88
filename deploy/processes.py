"""The processes of chatbus: one word names the process, its extra and its compose service."""

from __future__ import annotations

import importlib
from types import ModuleType

from bus.errors import SettingError

PROCESSES = {
    "web": "webapp.project.server",
    "mongo_writer": "consumers.mongo_writer",
    "redis_publisher": "consumers.redis_publisher",
    "bridge": "bridge.server",
    "gateway": "bridge.gateway.app",
    "request_worker": "consumers.request_worker",
    "outbox_relay": "webapp.outbox.relay",
}
"""Process name → the module whose ``main(environment)`` runs it."""


def load(module: str, *, extra: str) -> ModuleType:
    """Imports ``module``. Raises SettingError when a package of ``extra`` is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SettingError(
            module, f"{error}; install it with: pip install 'chatbus[{extra}]'"
        ) from error
