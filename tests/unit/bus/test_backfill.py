"""What a consumer says when it ends before it has read what its queue lost."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from bus.consuming.backfill import Backfill
from bus.topology import MONGO_WRITER


def test_the_command_it_names_reads_the_archive_by_its_own_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By the events' times, a replay would miss imported ones."""
    backfill = Backfill("amqp://nowhere", MONGO_WRITER)
    backfill.open(datetime(2026, 11, 21, 17, 1, tzinfo=UTC))
    with backfill.reported():
        pass
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    command = "chatbus replay --into mongo_writer --archived-from 2026-11-21T17:00:00.000Z"
    assert record.getMessage().endswith(command)
