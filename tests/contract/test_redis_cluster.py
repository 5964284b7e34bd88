"""A node of a Redis Cluster given as REDIS_URL or BROKER_URL: the error says so."""

from __future__ import annotations

import uuid
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
import redis

from bus import events
from bus.errors import BrokerUnavailable, StoreUnavailable
from bus.publishing import Publisher
from bus.rooms.log_writer import RoomLogWriter
from bus.runtime.settings import Environment
from bus.topology import EVENT_QUEUES
from bus.transport import declare
from deploy.commands import trace
from deploy.local.child import Program
from tests.conftest import run_server
from tests.contract.chat import posted
from tests.support.ports import HOST, free_port
from tests.support.servers import Redis
from tests.support.wait import wait_until

SLOTS = 16_384
LONG = 120.0


class ClusterNode(Redis):
    def __init__(self) -> None:
        super().__init__()
        self.bus_port = free_port()

    def program(self) -> Program:
        program = super().program()
        # The nodes' own port is the other one and 10,000 by default, which may be taken.
        cluster = ("--cluster-enabled", "yes", "--cluster-port", str(self.bus_port))
        return replace(program, command=(*program.command, *cluster))


@pytest.fixture
def nodes() -> Iterator[list[ClusterNode]]:
    """Two nodes, each with half of the slots."""
    for first in run_server(ClusterNode()):
        for second in run_server(ClusterNode()):
            _join(first, second)
            yield [first, second]


def _join(first: ClusterNode, second: ClusterNode) -> None:
    half = SLOTS // 2
    with redis.Redis.from_url(first.url) as one, redis.Redis.from_url(second.url) as other:
        one.execute_command("CLUSTER ADDSLOTS", *range(half))
        other.execute_command("CLUSTER ADDSLOTS", *range(half, SLOTS))
        one.execute_command("CLUSTER MEET", HOST, second.port, second.bus_port)
        for client in (one, other):
            wait_until(lambda client=client: _is_whole(client), what="the nodes are a cluster")


def _is_whole(client: redis.Redis) -> bool:
    return client.execute_command("CLUSTER INFO")["cluster_state"] == "ok"


def test_the_error_of_a_cluster_says_what_it_is(nodes: list[ClusterNode]) -> None:
    writer = RoomLogWriter.connect(nodes[0].url)
    with pytest.raises(StoreUnavailable, match=r"node of a Redis Cluster.*not supp.*REDIS_URL"):
        _write_to_rooms_of_both(writer)
    writer.close()


def test_the_error_of_a_cluster_as_broker_says_what_it_is(nodes: list[ClusterNode]) -> None:
    problem = r"node of a Redis Cluster.*not supp.*BROKER_URL"
    with pytest.raises(BrokerUnavailable, match=problem):
        declare(nodes[0].url, EVENT_QUEUES)
    with (
        closing(Publisher(nodes[0].url, EVENT_QUEUES)) as publisher,
        pytest.raises(BrokerUnavailable, match=problem),
    ):
        publisher.publish(events.to_message(posted(uuid.uuid4())), timeout=LONG)


def test_trace_says_so_too(nodes: list[ClusterNode], capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser()
    trace.add_arguments(parser)
    arguments = parser.parse_args([str(events.new_id())])
    assert trace.run(arguments, Environment({"BROKER_URL": nodes[0].url})) == 1
    assert "this is a node of a Redis Cluster" in capsys.readouterr().out


def _write_to_rooms_of_both(writer: RoomLogWriter) -> None:
    for _ in range(50):
        writer.append([posted(uuid.uuid4())])
