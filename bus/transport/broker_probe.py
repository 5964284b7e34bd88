"""Asks the broker whether it answers, for readiness."""

from __future__ import annotations

from bus.transport.factory import connect_admin
from bus.transport.interfaces import AdminConnection


class BrokerProbe:
    """Asks the broker for an answer over a connection that it keeps, because readiness is checked
    every few seconds.

    Calling it raises BrokerUnavailable when no answer comes. Not for two threads at once.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._admin: AdminConnection | None = None

    def __call__(self) -> None:
        admin, self._admin = self._admin or connect_admin(self._url), None
        admin.ping()
        self._admin = admin
