"""The processes of chatbus: one word names the process, its extra and its compose service."""

from __future__ import annotations

import importlib
from types import ModuleType

from bus.errors import SettingError
from bus.runtime.settings import Environment

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


def bridge_workers(environment: Environment) -> int:
    """How many bridges share a port: BRIDGE_WORKERS. Raises SettingError."""
    return environment.integer("BRIDGE_WORKERS", 1, minimum=1, maximum=64)


def load(module: str, *, extra: str) -> ModuleType:
    """Imports ``module``. Raises SettingError when a package of ``extra`` is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SettingError(
            module, f"{error}; install it with: pip install 'chatbus[{extra}]'"
        ) from error
