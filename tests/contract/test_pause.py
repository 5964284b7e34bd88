"""A paused queue fills while its consumers stay up, whatever is started again meanwhile."""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import requests
from prometheus_client import REGISTRY

from bus.consuming.pause import PauseWatch, pause, resume
from bus.errors import SettingError
from bus.publishing import Publisher
from bus.rpc.client import RpcClient
from bus.rpc.messages import HeldRequest, Reply
from bus.rpc.server import RpcServer
from bus.runtime.settings import Environment
from bus.topology import MONGO_WRITER, REDIS_PUBLISHER, WEB_REQUESTS, pause_queue
from bus.transport import connect_admin
from deploy.commands import pause as command
from tests.contract.rpc_fixtures import (
    Broker,
    Site,
    broker,
    broker_on,
    server,
    site,
    site_of_module,
)
from tests.support.broker import depth, empty
from tests.support.consuming import ListSink, consuming, publish
from tests.support.events import posted
from tests.support.rabbitmq import RabbitMQ
from tests.support.rabbitmq_faults import silent_leader
from tests.support.wait import patience, wait_until

__all__ = ["broker", "server", "site", "site_of_module"]


@pytest.fixture
def url(broker: Broker) -> str:
    empty(broker.url)
    for queue in (MONGO_WRITER, REDIS_PUBLISHER, WEB_REQUESTS):
        resume(broker.url, queue)
    return broker.url


def chatbus(url: str, *arguments: str, code: int = 0) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        env={"BROKER_URL": url, "PATH": "/usr/bin:/bin", "USER": "olga"},
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
    )
    assert finished.returncode == code, (finished.stdout, finished.stderr)
    return finished.stdout + finished.stderr


@pytest.fixture
def chatbus_here(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Like ``chatbus``, in this process: a start takes more processor time than the word."""

    def run(url: str, word: str, *arguments: str) -> str:
        parser = argparse.ArgumentParser()
        {"pause": command.add_arguments, "resume": command.add_resume_arguments}[word](parser)
        parsed = parser.parse_args(arguments)
        assert parsed.run(parsed, Environment({"BROKER_URL": url})) == 0
        return capsys.readouterr().out

    return run


def test_a_paused_consumer_stays_up_and_goes_on_where_it_was(url: str) -> None:
    sink = ListSink()
    with consuming(url, sink, queue=REDIS_PUBLISHER, batch=10) as consumer:
        publish(url, *(posted(f"{number}") for number in range(100)))
        wait_until(lambda: sink.bodies)
        assert pause(url, REDIS_PUBLISHER, "olga", "a bad deploy")
        wait_until(lambda: consumer.status() == "paused")
        assert REGISTRY.get_sample_value("chatbus_paused", {"queue": REDIS_PUBLISHER.name}) == 1
        taken = len(sink.bodies)
        publish(url, *(posted(f"{number}") for number in range(100, 120)))
        wait_until(lambda: depth(url, REDIS_PUBLISHER) == 120 - taken)
        assert len(sink.bodies) == taken
        assert resume(url, REDIS_PUBLISHER)
        wait_until(lambda: len(sink.bodies) >= 120)
        assert consumer.status() == "ok"
        assert REGISTRY.get_sample_value("chatbus_paused", {"queue": REDIS_PUBLISHER.name}) == 0
    assert sink.bodies == [f"{number}" for number in range(120)]


def test_the_other_queue_goes_on(url: str) -> None:
    pause(url, REDIS_PUBLISHER, "olga")
    history, log = ListSink(), ListSink()
    with (
        consuming(url, history),
        consuming(url, log, queue=REDIS_PUBLISHER),
    ):
        publish(url, posted("one"))
        wait_until(lambda: history.bodies == ["one"])
        assert depth(url, REDIS_PUBLISHER) == 1
        resume(url, REDIS_PUBLISHER)
        wait_until(lambda: log.bodies == ["one"])


def test_a_pause_reaches_every_instance_and_those_that_start_later(url: str) -> None:
    sinks = [ListSink() for _ in range(3)]
    with (
        consuming(url, sinks[0], instance="1") as one,
        consuming(url, sinks[1], instance="2") as two,
    ):
        pause(url, MONGO_WRITER, "olga")
        wait_until(lambda: one.status() == two.status() == "paused")
        with consuming(url, sinks[2], instance="3") as three:
            assert three.status() == "paused"
            publish(url, posted("one"))
            assert depth(url, MONGO_WRITER) == 1
            resume(url, MONGO_WRITER)
            wait_until(lambda: any(sink.bodies for sink in sinks))
    assert sum(len(sink.bodies) for sink in sinks) == 1


def test_a_pause_outlives_a_crash_of_the_broker(url: str, broker: Broker) -> None:
    sink = ListSink()
    with consuming(url, sink, queue=REDIS_PUBLISHER) as consumer:
        pause(url, REDIS_PUBLISHER, "olga")
        wait_until(lambda: consumer.status() == "paused")
        publish(url, *(posted(f"{number}") for number in range(10)))
        broker.server.kill()
        wait_until(lambda: consumer.status() == "connecting", what="it misses the broker")
        broker.server.start()
        wait_until(lambda: consumer.status() == "paused", 60)
        assert sink.bodies == []
        resume(url, REDIS_PUBLISHER)
        wait_until(lambda: len(sink.bodies) == 10, 60)
    assert sink.bodies == [f"{number}" for number in range(10)]


def test_whoever_watches_for_a_pause_asks_in_vain_once_at_most(rabbitmq: RabbitMQ) -> None:
    """Each time that somebody asks for a queue which is not there, RabbitMQ logs two errors."""
    url = rabbitmq.fresh_vhost()
    with closing(PauseWatch(url, MONGO_WRITER)) as watch:
        assert not watch.is_paused()
        with closing(connect_admin(url)) as admin:
            assert admin.depth(pause_queue(MONGO_WRITER)) == 0
        pause(url, MONGO_WRITER, "olga")
        assert wait_until(watch.is_paused)


def test_pausing_and_resuming_twice_changes_nothing(url: str) -> None:
    assert pause(url, MONGO_WRITER, "olga")
    assert not pause(url, MONGO_WRITER, "olga")
    assert depth(url, pause_queue(MONGO_WRITER))
    assert resume(url, MONGO_WRITER)
    assert not resume(url, MONGO_WRITER)
    assert not depth(url, pause_queue(MONGO_WRITER))


def test_requests_wait_while_the_workers_are_paused(url: str, site: Site) -> None:
    worker, gateway = site.lasting_worker(), site.lasting_gateway()
    assert gateway.get("/first").ok
    pause(url, WEB_REQUESTS, "olga")
    wait_until(lambda: "is paused" in worker.output)
    with ThreadPoolExecutor(4) as pool:
        ask: Callable[[int], requests.Response] = lambda n: gateway.request("POST", f"/{n}")  # noqa: E731
        answers = [pool.submit(ask, number) for number in range(4)]
        wait_until(lambda: depth(url, WEB_REQUESTS) == 4)
        resume(url, WEB_REQUESTS)
        assert [answer.result().status_code for answer in answers] == [200] * 4
    assert sorted(site.runs()) == ["GET /first", *(f"POST /{number}" for number in range(4))]


def test_a_worker_that_stops_while_paused_takes_no_request(broker: Broker) -> None:
    # No other worker is there.
    url = broker_on(broker.server).url
    taken: list[HeldRequest] = []

    def take(request: HeldRequest) -> Reply:
        taken.append(request)
        return Reply(status=200, headers=(), body=b"")

    pause(url, WEB_REQUESTS, "olga")
    stop = threading.Event()
    client = RpcClient(url)
    with closing(client), closing(Publisher(url)) as publisher:
        client.start()
        wait_until(client.is_connected)
        server = RpcServer(url=url, handler=take, publisher=publisher, stop=stop)
        thread = threading.Thread(target=server.run)
        thread.start()
        wait_until(lambda: server.status() == "paused")
        answer = client.send(post(time.time() + 60), priority=0)
        wait_until(lambda: depth(url, WEB_REQUESTS) == 1)
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
        assert not taken
        assert not answer.done()


def post(deadline: float) -> HeldRequest:
    return HeldRequest(
        method="POST",
        target="/",
        headers=(),
        body=b"",
        client="127.0.0.1",
        scheme="http",
        deadline=deadline,
    )


def test_posts_during_many_pauses_run_once_and_are_all_answered(url: str, site: Site) -> None:
    worker, gateway = site.lasting_worker(), site.lasting_gateway()
    with ThreadPoolExecutor(4) as pool:
        answers = []
        for round_ in range(4):
            answers += [
                pool.submit(gateway.request, "POST", f"/{round_}.{number}") for number in range(10)
            ]
            pause(url, WEB_REQUESTS, "olga")
            wait_until(lambda round_=round_: worker.output.count("is paused") > round_)  # type: ignore[misc]
            resume(url, WEB_REQUESTS)
            wait_until(lambda round_=round_: worker.output.count("resumed") > round_)  # type: ignore[misc]
        assert {answer.result().status_code for answer in answers} == {200}
    assert len(site.runs()) == len(set(site.runs())) == 40


def test_the_command_says_what_it_did(url: str, chatbus_here: Callable[..., str]) -> None:
    publish(url, *(posted(f"{number}") for number in range(3)))
    before = depth(url, MONGO_WRITER)
    wait = f"{before} messages ready"
    assert chatbus(url, "pause", "mongo_writer", "--reason", "a bad deploy") == (
        f"chat.mongo_writer is paused; {wait}.\nResume it with: chatbus resume mongo_writer\n"
    )
    assert "was paused already" in chatbus_here(url, "pause", "chat.mongo_writer")
    assert chatbus(url, "resume", "mongo_writer") == f"chat.mongo_writer resumed; {wait}.\n"
    assert "was not paused" in chatbus_here(url, "resume", "mongo_writer")


def test_resume_says_how_much_waited_when_it_was_given(
    url: str, chatbus_here: Callable[..., str]
) -> None:
    sink = ListSink()
    with consuming(url, sink) as consumer:
        pause(url, MONGO_WRITER, "olga")
        wait_until(lambda: consumer.status() == "paused")
        publish(url, *(posted(f"{number}") for number in range(150)))
        wait_until(lambda: depth(url, MONGO_WRITER) == 150)
        assert "resumed; 150 messages ready." in chatbus_here(url, "resume", "mongo_writer")
        wait_until(lambda: len(sink.bodies) == 150)


@pytest.mark.parametrize("word", ["pause", "resume"])
def test_a_wrong_name_is_refused_with_those_that_are_accepted(
    word: str, chatbus_here: Callable[..., str]
) -> None:
    output = chatbus("amqp://nowhere", word, "nobody", code=2)
    accepted = "mongo_writer, chat.mongo_writer, redis_publisher, chat.redis_publisher"
    assert f"'nobody' is not a queue; accepted are {accepted}" in output
    with pytest.raises(SettingError, match=r"'chat\.archive' has no consumers; accepted are"):
        chatbus_here("amqp://nowhere", word, "chat.archive")


def test_looking_for_a_pause_again_and_again_leaves_no_channel_behind(rabbitmq: RabbitMQ) -> None:
    with closing(connect_admin(rabbitmq.fresh_vhost())) as admin:
        for _ in range(50):
            assert admin.depth(pause_queue(MONGO_WRITER)) is None
        assert len(admin.connection.connection.channels) <= 2


class TestSilentLeader:
    """The leader of the note's queue does not answer: RabbitMQ counts nothing on it then."""

    @pytest.fixture
    def vhost(self, rabbitmq: RabbitMQ) -> str:
        url = rabbitmq.fresh_vhost()
        empty(url)
        return url

    def test_a_paused_consumer_stays_paused(self, rabbitmq: RabbitMQ, vhost: str) -> None:
        sink = ListSink()
        with consuming(vhost, sink) as consumer:
            wait_until(lambda: consumer.status() == "ok")
            assert pause(vhost, MONGO_WRITER, "olga")
            wait_until(lambda: consumer.status() == "paused")
            with silent_leader(rabbitmq, vhost, pause_queue(MONGO_WRITER).name):
                publish(vhost, posted("while it is paused"))
                deadline = time.monotonic() + 6
                while time.monotonic() < deadline:
                    assert consumer.status() != "ok"
                    assert sink.bodies == []
                    time.sleep(0.1)
            wait_until(lambda: consumer.status() == "paused")
            assert sink.bodies == []
            assert resume(vhost, MONGO_WRITER)
            wait_until(lambda: sink.bodies == ["while it is paused"])

    def test_a_pause_that_was_there_is_told(self, rabbitmq: RabbitMQ, vhost: str) -> None:
        assert pause(vhost, MONGO_WRITER, "olga")
        with ThreadPoolExecutor(1) as pool:
            with silent_leader(rabbitmq, vhost, pause_queue(MONGO_WRITER).name):
                again = pool.submit(pause, vhost, MONGO_WRITER, "apply")
                time.sleep(1)
                assert not again.done()
            assert again.result() is False


def test_a_note_in_somebodys_hand_is_resumed_too(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    assert pause(url, MONGO_WRITER, "olga")
    note = pause_queue(MONGO_WRITER)
    with closing(connect_admin(url)) as other, ThreadPoolExecutor(1) as pool:
        message = other.channel.basic_get(note.name)
        resumed = pool.submit(resume, url, MONGO_WRITER)
        time.sleep(0.5)
        assert not resumed.done()
        other.channel.basic_reject(message.delivery_tag, requeue=True)
        assert resumed.result() is True
    assert depth(url, note) == 0
