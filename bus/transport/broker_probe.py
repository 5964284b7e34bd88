"""Asks the broker whether it answers, for readiness."""

from __future__ import annotations

from bus.transport.admin import Link


class BrokerProbe:
    """Asks the broker for an answer, on a connection kept for this: a process that is asked every
    few seconds must not connect as often.

    Calling it raises BrokerUnavailable when there is none. Not for two threads at once.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._link: Link | None = None

    def __call__(self) -> None:
        link, self._link = self._link or Link(self._url), None
        link.ping()
        self._link = link
