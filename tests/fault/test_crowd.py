"""A thousand and more in one room: some who read nothing, and all who come back at once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import redis

from bus.rooms.log_writer import RoomLogWriter
from tests.contract import chat
from tests.contract.chat import KEYS, ORIGIN, posted
from tests.fault.bridges import metric, running_bridge
from tests.fault.form import Form
from tests.support.crowd import Crowd, Member, body
from tests.support.ports import free_port
from tests.support.raw_socket import RawSocket
from tests.support.servers import Redis
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(1_800)

MEGABYTE = 1024 * 1024


class Scene:
    """A bridge as a process, and a room of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.room_id = uuid.uuid4()
        self.port, self.ops_port = free_port(), free_port()
        self.client = redis.Redis.from_url(url)
        self.log = RoomLogWriter(self.client)
        self.environment = {
            "REDIS_URL": url,
            "BRIDGE_PORT": str(self.port),
            "OPS_PORT": str(self.ops_port),
            "BRIDGE_SOCKETS_PER_ADDRESS": "100000",
            "ALLOWED_ORIGINS": ORIGIN,
            "TICKET_KEYS": ":".join(KEYS.keys[0]),
            "LOG_LEVEL": "INFO",
        }
        self.log_file = folder / "bridge.log"

    def frames(self, user_id: int, since: str = "") -> list[bytes]:
        """What a member says after the handshake."""
        ticket = chat.ticket(user_id, [self.room_id])
        return [
            f'{{"type":"authenticate","ticket":"{ticket}"}}'.encode(),
            f'{{"type":"subscribe","room_id":"{self.room_id}"{since}}}'.encode(),
        ]

    def crowd(self, size: int, since: str = "") -> Crowd:
        crowd = Crowd(self.port, ORIGIN, (self.frames(n + 1, since) for n in range(size)))
        crowd.gather()
        return crowd

    def stalled(self, user_id: int) -> RawSocket:
        """A member who reads nothing after having been let in."""
        member = Member(RawSocket(self.port, receive_buffer=4_096), self.frames(user_id))
        member.begin(ORIGIN)
        member.raw.socket.setblocking(True)
        while not member.is_in(member.raw.socket.recv(4_096)):
            pass
        return member.raw

    def metric(self, sample: str) -> float:
        return metric(self.ops_port, f"chatbus_bridge_{sample}")

    def publish_for(self, seconds: float, *, per_second: int, size: int) -> None:
        started = time.monotonic()
        sent = 0
        while (elapsed := time.monotonic() - started) < seconds:
            if elapsed * per_second >= sent:
                self.log.append([posted(self.room_id, body(size))])
                sent += 1
            else:
                time.sleep(0.002)


@pytest.fixture
def scene(own_redis: Redis, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(own_redis.fresh_database(), tmp_path)
    yield scene
    scene.client.close()


def test_readers_that_stall_among_many(scene: Scene, form: Form) -> None:
    """They are cut off, and cost the others nothing: neither memory nor time."""
    size = form.sockets // 5
    with running_bridge(scene.environment, scene.log_file) as child, ExitStack() as cleanup:
        crowd = scene.crowd(size - size // 10)
        cleanup.callback(crowd.close)
        with crowd.reading():
            scene.publish_for(5, per_second=20, size=1_000)
            before = crowd.take_p99()
            process = psutil.Process(child.pid)
            memory = process.memory_info().rss
            slow = [cleanup.enter_context(scene.stalled(10**6 + n)) for n in range(size // 10)]
            crowd.latencies.clear()

            closings = 'closings_total{code="4508"}'
            started = time.monotonic()
            cut_after = 0.0
            for _ in range(10):
                scene.publish_for(1, per_second=20, size=1_000)
                if not cut_after and scene.metric(closings) == len(slow):
                    cut_after = time.monotonic() - started
            peak = process.memory_info().rss
            wait_until(lambda: scene.metric(closings) == len(slow), what="all that stall are cut")
            during = crowd.take_p99()
        assert crowd.lost == []
        print(f"p99 {before:.1f} ms, {during:.1f} ms; cut after {cut_after:.1f} s")
        assert peak - memory < 50 * MEGABYTE
        # Of a few milliseconds, another process on the machine makes as many more.
        assert during < 2 * max(before, 50)


def test_everybody_comes_back_at_once(scene: Scene, form: Form) -> None:
    """The log is read once for all of them, not once for each."""
    scene.log.append([posted(scene.room_id, f"{n}") for n in range(200)])
    epoch = scene.client.hget(f"{{room:{scene.room_id}}}:meta", "epoch").decode()
    since = f',"since":{{"epoch":"{epoch}","offset":100}}'
    with running_bridge(scene.environment, scene.log_file):
        scene.client.config_resetstat()
        crowd = scene.crowd(form.sockets, since)
        try:
            stats = scene.client.info("commandstats")
            reads = sum(
                stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]
                for name in ("xrange", "xrevrange")
            )
            # Readings of the log of ended sessions are by XRANGE, too.
            assert 1 <= reads <= 10, stats
            for member in crowd.members:
                assert b'"recovered":true' in member.answer
                assert member.answer.count(b'"type":"message.posted"') == 100
            assert scene.metric('recoveries_total{outcome="whole"}') == form.sockets
        finally:
            crowd.close()
