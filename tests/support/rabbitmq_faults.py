"""What may befall a RabbitMQ node that goes on running."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.rabbitmq import RabbitMQ
from tests.support.wait import wait_until

# Suspends the leader of a quorum queue, and resumes it when the file is gone.
_SILENCE = """
{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>)),
{{Leader, _}} = amqqueue:get_pid(Queue),
Watch = fun Look() ->
    case filelib:is_file("{held}") of
        true -> timer:sleep(20), Look();
        false -> sys:resume(Leader)
    end
end,
ok = sys:suspend(Leader),
spawn(Watch)
"""
# How an alarm is made and ended.
_ALARMS = {
    "memory": ("vm_memory_monitor:set_vm_memory_high_watermark({})", "0", "0.4"),
    "disk": ('rabbit_disk_monitor:set_disk_free_limit("{}")', "1000000GB", "50MB"),
}


@contextmanager
def alarm(rabbit: RabbitMQ, kind: str) -> Iterator[None]:
    """While the block runs, RabbitMQ takes nothing from publishers for want of "memory" or
    "disk"."""
    set_limit, scarce, plenty = _ALARMS[kind]
    rabbit.evaluate(set_limit.format(scarce))
    try:
        wait_until(lambda: kind in _alarms(rabbit), what=f"the {kind} alarm")
        yield
        assert kind in _alarms(rabbit)
    finally:
        rabbit.evaluate(set_limit.format(plenty))
        wait_until(lambda: kind not in _alarms(rabbit), what=f"no {kind} alarm")


def _alarms(rabbit: RabbitMQ) -> str:
    return rabbit.evaluate("rabbit_alarm:get_alarms()")


@contextmanager
def silent_leader(rabbit: RabbitMQ, url: str, queue: str) -> Iterator[None]:
    """While the block runs, RabbitMQ can only guess what is on quorum queue ``queue``.

    The node itself lets the leader go on, within a moment of the end of the block.
    """
    held = rabbit.folder / f"held-{uuid.uuid4().hex}"
    held.touch()
    vhost = url.rpartition("/")[2]
    rabbit.evaluate(_SILENCE.format(vhost=vhost, queue=queue, held=held))
    try:
        yield
    finally:
        held.unlink()
