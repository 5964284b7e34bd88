"""RabbitMQ killed, stalled, out of memory or disk, and throwing everybody out."""

from __future__ import annotations

import pika.exceptions
import pytest

from tests.fault.form import Form
from tests.fault.system import System, refuses
from tests.support.freeze import frozen
from tests.support.load import Load
from tests.support.rabbitmq_faults import alarm

pytestmark = pytest.mark.timeout(1_800)


def test_sigkill_and_restart(system: System, load: Load, form: Form) -> None:
    for _ in range(form.broker_kills):
        with system.rabbitmq.down():
            refuses(load, 1)
        load.wait_for_accepted()
    load.settle()


def test_sigstop(system: System, load: Load, form: Form) -> None:
    with frozen(system.rabbitmq.pid):
        refuses(load, form.stall)
    load.wait_for_accepted()
    load.settle()


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_alarm(system: System, load: Load, form: Form, kind: str) -> None:
    with alarm(system.rabbitmq, kind):
        refuses(load, form.stall)
    load.wait_for_accepted()
    load.settle()


def test_all_connections_closed_again_and_again(system: System, load: Load, form: Form) -> None:
    for _ in range(form.closings):
        witness = system.connect()
        system.ctl("close_all_connections", "a test closes it")
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
            witness.process_data_events(time_limit=10)
        load.wait_for_accepted()
    load.settle()
