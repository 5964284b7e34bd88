"""A store that is down: its consumer waits, everything else goes on."""

from __future__ import annotations

import pytest

from bus.topology import MONGO_WRITER, REDIS_PUBLISHER
from tests.fault.form import Form
from tests.fault.system import System
from tests.support.load import Load
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(1_800)


def test_mongodb_is_down(system: System, load: Load, form: Form) -> None:
    with system.mongo.down():
        shown = load.shown()
        load.run_for(form.outage)
        load.wait_for_accepted()
        wait_until(lambda: load.shown() > shown, what="the reader sees what comes")
        assert system.waiting(MONGO_WRITER) > 0
    load.settle()


def test_redis_is_down(system: System, load: Load, form: Form) -> None:
    with system.redis.down():
        stored = len(load.stored())
        load.run_for(form.outage)
        load.wait_for_accepted()
        wait_until(lambda: len(load.stored()) > stored, what="MongoDB gets what comes")
        assert system.waiting(REDIS_PUBLISHER) > 0
        assert not system.stack.bridge_is_ready()
    load.settle()
