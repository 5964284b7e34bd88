"""The listener for operators, alone and on a broker that is stopped and stalled."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from bus.errors import SettingError
from bus.runtime.health import Probes
from bus.runtime.ops_server import CLIENT_SECONDS, OpsServer, start_ops
from bus.runtime.settings import Environment
from bus.transport.broker_probe import BrokerProbe
from tests.conftest import run_server
from tests.support.freeze import frozen
from tests.support.ports import HOST
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import Redis
from tests.support.wait import wait_until

SECONDS = 10
Start = Callable[..., str]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[OpsServer] = []

    def start_one(checks: dict[str, str], **settings: str) -> str:
        started.append(start_ops(Environment(settings), ready=lambda: checks))
        return f"http://{HOST}:{started[-1].port}"

    yield start_one
    for one in started:
        one.close()


def get(url: str) -> requests.Response:
    return requests.get(url, timeout=SECONDS)


def test_ready_is_what_the_checks_say(start: Start) -> None:
    checks = {"broker": "ok", "queue": "paused"}
    url = start(checks)
    assert get(f"{url}/health/live").json() == {"status": "ok"}
    answer = get(f"{url}/health/ready")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "checks": checks}
    checks["broker"] = "unreachable"
    answer = get(f"{url}/health/ready?verbose=1")
    assert answer.status_code == 503
    assert answer.json() == {"status": "unavailable", "checks": checks}
    assert get(f"{url}/health/live").status_code == 200


def test_metrics_can_be_read_by_prometheus(start: Start) -> None:
    answer = get(f"{start({})}/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert families["chatbus_info"].samples[0].labels.keys() == {"version"}
    assert {"chatbus_published_messages", "process_start_time_seconds"} <= families.keys()


@pytest.mark.parametrize("path", ["/", "/metrics/more", "/health"])
def test_other_paths_are_not_there(start: Start, path: str) -> None:
    assert get(start({}) + path).status_code == 404


def test_only_get_is_answered(start: Start) -> None:
    assert requests.post(f"{start({})}/metrics", timeout=SECONDS).status_code == 501


def test_who_says_nothing_is_cut_off_and_holds_up_nobody(start: Start) -> None:
    url = start({})
    address = (HOST, int(url.rpartition(":")[2]))
    with socket.create_connection(address, SECONDS) as silent:
        assert get(f"{url}/health/live").status_code == 200
        assert silent.settimeout(CLIENT_SECONDS + SECONDS) is None
        assert silent.recv(1) == b""


def test_two_that_share_a_listener_both_answer() -> None:
    """As the workers of the web do; who finds the connection taken must not wait for the next."""
    from bus.runtime import ops_server

    listener = ops_server.listen(Environment({}))
    with (
        closing(OpsServer(listener, lambda: {"i": "first"})) as first,
        closing(OpsServer(listener.dup(), lambda: {"i": "second"})) as second,
    ):
        first.start()
        second.start()
        seen: set[str] = set()

        def ask() -> bool:
            seen.add(get(f"http://{HOST}:{first.port}/health/ready").json()["checks"]["i"])
            return seen == {"first", "second"}

        wait_until(ask)


def test_a_taken_port_is_named(start: Start) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=rf"OPS_PORT: cannot listen on {HOST}:{port}: "):
            start({}, OPS_PORT=str(port))


@pytest.mark.parametrize("value", ["-1", "65536", "many"])
def test_a_bad_port_is_named(start: Start, value: str) -> None:
    with pytest.raises(SettingError, match="OPS_PORT"):
        start({}, OPS_PORT=value)


def test_nothing_is_left_when_it_is_closed() -> None:
    before = threading.active_count()
    server = start_ops(Environment({}), ready=dict)
    get(f"http://{HOST}:{server.port}/health/live")
    server.close()
    wait_until(lambda: threading.active_count() == before)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, server.port), SECONDS)


@pytest.fixture(scope="module", params=[RabbitMQ, Redis])
def broker(request: pytest.FixtureRequest) -> Iterator[RabbitMQ | Redis]:
    yield from run_server(request.param())


def test_the_broker_is_asked_now(broker: RabbitMQ | Redis) -> None:
    """Also on a connection that was good a moment ago, and while the broker takes none."""
    checks = Probes({"broker": BrokerProbe(broker.url)})

    def tells(*outcomes: str) -> None:
        wait_until(lambda: checks()["broker"] in outcomes, what=f"it is {outcomes}")

    assert checks() == {"broker": "ok"}
    with frozen(broker.pid):
        tells("timeout", "unreachable")
    tells("ok")
    broker.kill()
    tells("unreachable")
    broker.start()
    tells("ok")
