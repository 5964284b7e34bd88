"""An event queue deleted under load, with messages on it."""

from __future__ import annotations

import pytest

from bus.topology import CONSUMERS
from tests.fault.system import System
from tests.support.freeze import frozen
from tests.support.load import Load
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(1_800)
# The topology check's bound.
NOTICE_SECONDS = 10.0


@pytest.mark.parametrize("name", ["mongo_writer", "redis_publisher"])
def test_deleted_with_messages_on_it(system: System, load: Load, name: str) -> None:
    queue = CONSUMERS[name]
    with frozen(system.stack.pid_of(name)):
        system.wait_until_holding(queue)
        system.ctl("delete_queue", queue.name)
        # Nobody but its consumer may make it anew: the web would confirm what it lost.
        load.wait_for_refusal(NOTICE_SECONDS)
        assert not system.is_ready()
        assert queue.name not in system.queues()
    wait_until(system.is_ready, what="the web tier is ready again")
    load.wait_for_accepted()
    load.settle()
