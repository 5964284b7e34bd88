"""``chatbus topology`` on real brokers: it makes them as the code is, and loses nothing."""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from bus import events, topology
from bus.admin import empty_queue, topology_apply
from bus.admin.dead_letters import dead_queue, open_dead_letters
from bus.errors import BrokerUnavailable, PublishRefused, QueueInUse, SettingError
from bus.message import Message
from bus.publishing import Publisher
from bus.runtime.settings import Environment
from bus.topology import GATE, MONGO_WRITER, QUEUES, REDIS_PUBLISHER
from bus.transport.rabbitmq.management_api import BindingInfo, Management, QueueInfo
from bus.transport.rabbitmq.topology_editor import TopologyEditor
from deploy.commands import topology as command
from tests.support.broker import waiting
from tests.support.events import posted
from tests.support.ports import HOST, free_port
from tests.support.rabbitmq import RabbitMQ
from tests.support.rabbitmq_faults import silent_leader
from tests.support.servers import Redis
from tests.support.wait import patience, wait_until

KEY = f"room.{uuid.uuid4()}.message.posted"
Topology = Callable[..., tuple[int, str]]


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    return rabbitmq.fresh_vhost()


@pytest.fixture
def chatbus(rabbitmq: RabbitMQ, url: str, capsys: pytest.CaptureFixture[str]) -> Topology:
    """Runs `chatbus topology` with some words; returns the exit code and what it printed."""

    def run(*words: str, **settings: str) -> tuple[int, str]:
        known = {"BROKER_URL": url, "BROKER_API_URL": rabbitmq.api_url}
        return run_topology(words, known | settings), capsys.readouterr().out

    return run


@pytest.fixture
def channel(url: str) -> Iterator[BlockingChannel]:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        yield connection.channel()


def run_topology(words: tuple[str, ...], settings: dict[str, str]) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words), Environment(settings))


def declare_otherwise(channel: BlockingChannel, queue: topology.Queue) -> None:
    """As an older release would have."""
    arguments = {**queue.arguments, "x-max-length": 1_000}
    channel.queue_declare(queue.name, durable=True, arguments=arguments)


@contextmanager
def publishing(url: str) -> Iterator[Publisher]:
    publisher = Publisher(url)
    try:
        yield publisher
    finally:
        publisher.close()


def message() -> Message:
    return events.to_message(posted())


def maximum_length(rabbitmq: RabbitMQ, url: str, queue: str) -> Any:
    queues = Management.from_url(url, rabbitmq.api_url).queues()
    return {each.name: each.arguments.get("x-max-length") for each in queues}[queue]


def test_apply_makes_an_empty_broker_whole_and_a_second_one_does_nothing(
    chatbus: Topology,
) -> None:
    code, output = chatbus("plan")
    assert code == 3
    assert "missing\tqueue\tchat.mongo_writer.dead\n" in output
    assert "missing\tbinding\tchat.events -> chat.redis_publisher (room.#)\n" in output
    code, output = chatbus("apply")
    assert code == 0
    assert "created queue chat.archive\n" in output
    assert chatbus("plan") == (0, "no difference\n")
    assert chatbus("apply") == (0, "nothing to do\n")
    assert chatbus("apply", "--quiet") == (0, "")


def test_what_is_missing_is_shown_and_made_again(
    chatbus: Topology, channel: BlockingChannel
) -> None:
    chatbus("apply")
    channel.queue_delete(MONGO_WRITER.name)
    channel.queue_unbind(REDIS_PUBLISHER.name, "chat.events", "room.#")
    expected = {
        ("missing", "queue", "chat.mongo_writer"),
        ("missing", "binding", "chat.events -> chat.mongo_writer (room.*.message.*)"),
        ("missing", "binding", "chat.events -> chat.redis_publisher (room.#)"),
    }
    code, output = chatbus("apply", "--dry-run", "--json")
    found = {(d["kind"], d["what"], d["name"]) for d in json.loads(output)["differences"]}
    assert (code, found) == (3, expected)
    assert chatbus("apply")[0] == 0
    assert chatbus("plan")[0] == 0


def test_one_queue_alone(chatbus: Topology, url: str, rabbitmq: RabbitMQ) -> None:
    code, output = chatbus("apply", "--queue", "web.requests")
    assert (code, output) == (0, "created queue web.requests\n")
    queues = Management.from_url(url, rabbitmq.api_url).queues()
    assert [queue.name for queue in queues] == ["web.requests"]
    with pytest.raises(SettingError, match=r"chat\.mongo_writer"):
        chatbus("plan", "--queue", "nonsense")


@pytest.mark.parametrize("name", ["mongo_writer", "chat.mongo_writer"])
def test_one_queue_on_an_empty_broker_makes_all_and_says_so(chatbus: Topology, name: str) -> None:
    """An exchange without one of its queues would lose what that queue should get."""
    code, output = chatbus("apply", "--queue", name)
    assert code == 0
    for queue in QUEUES:
        assert f"created queue {queue.name}\n" in output
    assert "created exchange chat.events\n" in output
    assert "created binding chat.events -> chat.archive (#)\n" in output
    assert len(set(output.splitlines())) == output.count("\n")
    assert chatbus("plan") == (0, "no difference\n")


def test_one_queue_without_the_management_api(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("apply", "--queue", "mongo_writer")
    assert run_topology(words, {"BROKER_URL": url}) == 0
    assert capsys.readouterr().out.startswith("declared all queues\n")
    assert waiting(url, REDIS_PUBLISHER.name) == 0
    assert run_topology(words, {"BROKER_URL": url}) == 0
    assert capsys.readouterr().out.startswith("declared chat.mongo_writer\n")


@pytest.mark.parametrize("name", ["mongo_writer", "chat.mongo_writer"])
def test_one_queue_is_exported_with_what_it_needs(chatbus: Topology, name: str) -> None:
    code, output = chatbus("export", "--queue", name)
    found = json.loads(output)
    assert code == 0
    queues = ["chat.mongo_writer", "chat.mongo_writer.dead"]
    assert [queue["name"] for queue in found["queues"]] == queues
    assert [binding["destination"] for binding in found["bindings"]] == queues
    exchanges = {exchange["name"] for exchange in found["exchanges"]}
    assert exchanges == {"chat.unroutable", "chat.events", "chat.dead"}
    with pytest.raises(SettingError, match="'mongo_reader' is not a queue; accepted are mongo_wr"):
        chatbus("export", "--queue", "mongo_reader")


@pytest.mark.parametrize(
    "words",
    [
        *(("plan", "--recreate"), ("plan", "--quiet"), ("plan", "--vhost", "x")),
        *(("export", "--json"), ("export", "--dry-run"), ("apply", "--json")),
    ],
)
def test_a_flag_that_the_action_would_ignore_is_refused(
    chatbus: Topology, words: tuple[str, ...]
) -> None:
    with pytest.raises(SettingError, match=words[1]):
        chatbus(*words)


def test_without_the_archive_it_is_neither_wanted_nor_extra(chatbus: Topology) -> None:
    _, output = chatbus("apply", ARCHIVE="0")
    assert "chat.archive" not in output
    assert "chat.archive" in chatbus("plan")[1]
    chatbus("apply")
    assert chatbus("plan", ARCHIVE="0")[0] == 0


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_an_extra_queue_is_removed_only_when_nobody_uses_it(
    chatbus: Topology, channel: BlockingChannel, kind: str
) -> None:
    chatbus("apply")
    channel.queue_declare("chat.old", durable=True, arguments={"x-queue-type": kind})
    channel.queue_bind("chat.old", "chat.events", "room.#")
    channel.confirm_delivery()

    def kept_for(reason: str) -> None:
        assert chatbus("apply") == (0, f"kept queue chat.old: {reason}\n")

    channel.basic_consume("chat.old", lambda *delivery: None, consumer_tag="taker")
    kept_for("messages waiting on it: 0, consumers: 1")
    channel.basic_cancel("taker")
    # Still bound, and the gate is open.
    channel.basic_publish("chat.events", KEY, b"keep me", mandatory=True)
    kept_for("messages waiting on it: 1, consumers: 0")
    tag = channel.basic_get("chat.old")[0].delivery_tag
    if kind == "quorum":
        kept_for("messages waiting on it: 0, consumers: 1")
    channel.basic_ack(tag)
    wait_until(lambda: "removed" in chatbus("apply")[1], what="the unused queue is removed")
    assert chatbus("plan")[0] == 0


@pytest.mark.parametrize("sac", [False, True], ids=["shared", "single_active"])
def test_an_extra_queue_is_kept_while_its_leader_does_not_tell_what_is_on_it(
    chatbus: Topology, channel: BlockingChannel, rabbitmq: RabbitMQ, url: str, sac: bool
) -> None:
    chatbus("apply")
    arguments = {"x-queue-type": "quorum", "x-single-active-consumer": sac}
    channel.queue_declare("chat.old", durable=True, arguments=arguments)
    channel.queue_bind("chat.old", "chat.events", "room.#")
    channel.confirm_delivery()
    channel.basic_publish("chat.events", KEY, b"keep me", mandatory=True)
    with silent_leader(rabbitmq, url, "chat.old"):
        assert waiting(url, "chat.old") == 0, "the fault"
        assert "kept queue chat.old: " in chatbus("apply")[1]

    def purged() -> bool:
        return channel.queue_purge("chat.old").method.message_count == 1

    wait_until(purged, what="the message is still there")
    # The leader may have to forget whom it could not answer.
    wait_until(lambda: "removed queue chat.old\n" in chatbus("apply")[1], what="it is removed")


def test_a_queue_is_not_made_anew_while_its_dead_letters_are_worked_on(
    chatbus: Topology, channel: BlockingChannel, url: str
) -> None:
    declare_otherwise(channel, MONGO_WRITER)
    chatbus("apply")
    with open_dead_letters(url, MONGO_WRITER):
        code, printed = chatbus("apply", "--recreate")
        assert code == 3
        assert "kept queue chat.mongo_writer: " in printed
    assert chatbus("apply", "--recreate") == (0, "recreated queue chat.mongo_writer\n")


def test_an_extra_queue_that_is_gone_meanwhile_stops_nothing(
    chatbus: Topology, channel: BlockingChannel, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chatbus("apply")
    for name in ("chat.before", "chat.behind_the_gate"):
        channel.queue_declare(name, durable=True)
        channel.queue_bind(name, "chat.events", "room.#")
    check, unbind = topology_apply._check_unused, TopologyEditor.remove_bindings

    def lose_and_check(editor: TopologyEditor, info: QueueInfo) -> None:
        if info.name == "chat.before":
            channel.queue_delete(info.name)
        check(editor, info)

    def lose_and_unbind(editor: TopologyEditor, bindings: list[BindingInfo]) -> None:
        channel.queue_delete(bindings[0].destination)
        unbind(editor, bindings)

    monkeypatch.setattr(topology_apply, "_check_unused", lose_and_check)
    monkeypatch.setattr(TopologyEditor, "remove_bindings", lose_and_unbind)
    assert chatbus("apply")[0] == 0
    assert chatbus("plan") == (0, "no difference\n")
    with publishing(url) as publisher:
        publisher.publish(message())


def test_what_a_connection_holds_for_itself_is_no_difference(
    chatbus: Topology, channel: BlockingChannel
) -> None:
    chatbus("apply")
    own = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(own, "chat.events", "#")
    assert chatbus("plan") == (0, "no difference\n")


def test_a_stream_is_never_removed(chatbus: Topology, channel: BlockingChannel) -> None:
    chatbus("apply")
    channel.queue_declare("chat.log", durable=True, arguments={"x-queue-type": "stream"})
    assert "kept queue chat.log: a stream" in chatbus("apply")[1]


def test_an_extra_binding_of_a_queue_of_ours_is_removed_and_that_of_others_kept(
    chatbus: Topology, channel: BlockingChannel
) -> None:
    chatbus("apply")
    channel.queue_declare("analytics", durable=True)
    channel.queue_bind("analytics", "chat.events", "#")
    channel.queue_bind(MONGO_WRITER.name, "chat.events", "room.#")
    channel.exchange_declare("chat.gone", "direct", durable=True)
    code, output = chatbus("apply")
    assert code == 0
    assert output.splitlines() == [
        "removed exchange chat.gone",
        "kept binding chat.events -> analytics (#): analytics is not ours; "
        "unbind it by hand if no program needs it",
        "removed binding chat.events -> chat.mongo_writer (room.#)",
    ]


def test_an_exchange_that_differs_is_left_to_the_operator(
    chatbus: Topology, channel: BlockingChannel, url: str, rabbitmq: RabbitMQ
) -> None:
    channel.exchange_declare("chat.events", "fanout", durable=True)
    code, output = chatbus("apply")
    assert code == 3
    assert "nothing changed: exchange chat.events: " in output
    assert "type is fanout, in the code topic" in output
    assert Management.from_url(url, rabbitmq.api_url).queues() == []


def test_a_queue_that_differs_is_made_anew_only_when_asked_and_empty(
    chatbus: Topology, channel: BlockingChannel, url: str, rabbitmq: RabbitMQ
) -> None:
    declare_otherwise(channel, MONGO_WRITER)
    code, output = chatbus("apply")
    assert code == 0
    assert "x-max-length is 1000, in the code 20000000; apply --recreate" in output
    with publishing(url) as publisher:
        publisher.publish(message())
        code, output = chatbus("apply", "--recreate")
        assert code == 3
        assert "kept queue chat.mongo_writer: messages waiting on it: 1, consumers: 0" in output
        assert waiting(url, MONGO_WRITER.name) == 1
        # The gate is open again.
        publisher.publish(message())
        channel.queue_purge(MONGO_WRITER.name)
        assert chatbus("apply", "--recreate") == (0, "recreated queue chat.mongo_writer\n")
        assert maximum_length(rabbitmq, url, MONGO_WRITER.name) == 20_000_000
        publisher.publish(message())
        assert waiting(url, MONGO_WRITER.name) == 1
    assert chatbus("plan")[0] == 0


def test_a_gate_that_was_left_refuses_until_the_next_apply(
    chatbus: Topology, channel: BlockingChannel, url: str
) -> None:
    chatbus("apply")
    channel.queue_declare(GATE.name, durable=True, arguments=dict(GATE.arguments))
    channel.queue_bind(GATE.name, "chat.events", "room.*.message.*")
    channel.queue_delete(MONGO_WRITER.name)
    with publishing(url) as publisher:
        with pytest.raises(PublishRefused):
            publisher.publish(message())
        assert "chat.gate\tan apply is at work, or was interrupted" in chatbus("plan")[1]
        # Whatever was chosen: behind the gate more may be missing.
        code, output = chatbus("apply", "--queue", "web.requests")
        assert (code, output) == (
            0,
            "removed queue chat.gate\ncreated queue chat.mongo_writer\n"
            "created binding chat.events -> chat.mongo_writer (room.*.message.*)\n",
        )
        publisher.publish(message())
        assert waiting(url, MONGO_WRITER.name) == 1
    assert chatbus("plan")[0] == 0


def test_a_gate_in_use_is_not_opened(chatbus: Topology, channel: BlockingChannel, url: str) -> None:
    chatbus("apply")
    channel.queue_declare(GATE.name, durable=True, arguments=dict(GATE.arguments))
    channel.basic_consume(GATE.name, lambda *delivery: None, exclusive=True)
    with pytest.raises(QueueInUse, match="another apply is at work"):
        chatbus("apply")
    assert waiting(url, GATE.name) == 0


def test_without_the_management_api_it_creates_and_says_what_it_could_not_do(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_topology(("apply",), {"BROKER_URL": url}) == 0
    output = capsys.readouterr().out
    assert output.startswith("declared all queues\ncould not compare with what the broker has: ")
    assert "set BROKER_API_URL" in output
    for queue in QUEUES:
        assert waiting(url, queue.name) == 0
    api_url = f"http://{HOST}:{free_port()}"
    with pytest.raises(BrokerUnavailable, match=api_url):
        run_topology(("plan",), {"BROKER_URL": url, "BROKER_API_URL": api_url})


def test_without_the_management_api_a_gate_that_was_left_is_opened(url: str) -> None:
    run_topology(("apply",), {"BROKER_URL": url})
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.queue_declare(GATE.name, durable=True, arguments=dict(GATE.arguments))
        channel.queue_bind(GATE.name, "chat.events", "#")
    run_topology(("apply",), {"BROKER_URL": url})
    with publishing(url) as publisher:
        publisher.publish(message())


def test_on_redis_bindings_are_compared_and_made(
    redis_server: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"BROKER_URL": redis_server.fresh_database()}
    assert run_topology(("plan",), settings) == 3
    assert "missing\tbinding\tchat.events -> chat.mongo_writer" in capsys.readouterr().out
    assert run_topology(("apply",), settings) == 0
    assert run_topology(("plan",), settings) == 0
    with pytest.raises(SettingError, match="give --vhost"):
        run_topology(("export",), settings)


def test_what_is_exported_makes_an_empty_broker_whole(
    chatbus: Topology, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    vhost = f"imported-{uuid.uuid4().hex}"
    code, output = chatbus("export", "--vhost", vhost)
    assert code == 0
    file = tmp_path / "definitions.json"
    file.write_text(output)
    rabbitmq.ctl("import_definitions", str(file))
    rabbitmq.ctl("set_permissions", "--vhost", vhost, "guest", ".*", ".*", ".*")
    assert chatbus("plan", BROKER_URL=rabbitmq.vhost(vhost)) == (0, "no difference\n")


def test_a_queue_is_kept_while_a_message_that_has_died_is_on_it(
    chatbus: Topology, channel: BlockingChannel, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits there for the dead-letter queue, and neither waits nor is taken."""
    # Here RabbitMQ counts five to ten times as often as where that may take 30 s.
    monkeypatch.setattr(empty_queue, "STATISTICS_SECONDS", patience(2.0))
    monkeypatch.setattr(topology_apply, "DRAIN_SECONDS", patience(2.0))
    chatbus("apply")
    channel.queue_delete(MONGO_WRITER.name)
    declare_otherwise(channel, MONGO_WRITER)
    channel.queue_bind(MONGO_WRITER.name, "chat.events", "room.*.message.*")
    channel.queue_delete(dead_queue(MONGO_WRITER).name)
    channel.confirm_delivery()
    channel.basic_publish("chat.events", KEY, b"keep me", mandatory=True)
    method, _, _ = next(channel.consume(MONGO_WRITER.name))
    channel.basic_reject(method.delivery_tag, requeue=False)
    channel.cancel()
    wait_until(lambda: waiting(url, MONGO_WRITER.name) == 0)
    code, printed = chatbus("apply", "--recreate", "--queue", "chat.mongo_writer")
    assert code == 3
    assert "kept queue chat.mongo_writer: messages on it: 2, besides 1" in printed
    assert waiting(url, MONGO_WRITER.name) == 0


def test_a_queue_that_dead_letters_is_replaced_once_the_statistics_know_it_empty(
    chatbus: Topology, channel: BlockingChannel
) -> None:
    chatbus("apply")
    channel.queue_delete(MONGO_WRITER.name)
    declare_otherwise(channel, MONGO_WRITER)
    channel.queue_bind(MONGO_WRITER.name, "chat.events", "room.*.message.*")
    code, printed = chatbus("apply", "--recreate")
    assert (code, printed) == (0, "recreated queue chat.mongo_writer\n")
