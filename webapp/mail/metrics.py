"""The Prometheus metric of the mails, in ``outbox_relay`` alone."""

from __future__ import annotations

from prometheus_client import Gauge

WAITING_MAILS = Gauge("chatbus_waiting_mails", "Mails that wait for the mail server")
