"""``chatbus up``: starts, tells, restarts, refuses, and leaves nothing behind."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import redis
import requests

from deploy.local.data_folder import running_settings
from deploy.processes import PROCESSES
from tests.support.command import chatbus
from tests.support.freeze import frozen
from tests.support.ports import HOST, free_ports, is_open
from tests.support.stack import PORTS, Stack
from tests.support.wait import patience, wait_until

StartStack = Callable[..., Stack]
EMBEDDED = {"redis", "mongo"}
REDIS_6_2 = Path(__file__).parents[1] / "data" / "redis-6.2-appendonly.aof"
STRANGE_NAME = """it's "my" data\\n? #%20;=ü"""
GIVEN = {"BROKER_API_URL": f"http://{HOST}:1", "ARCHIVE": "0"}
SERVER_URLS = ("BROKER_URL", "REDIS_URL", "DATABASE_URL", "MONGO_URL")


def family(stack: Stack) -> list[psutil.Process]:
    """Everything that the supervisor started, and everything that those started."""
    return psutil.Process(stack.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process]) -> bool:
    """A zombie is gone too: it only waits for the machine's init to notice."""
    return not any(_lives(process) for process in processes)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def refused(folder: Path, port: int, **settings: str) -> str:
    """The one line of an ``up`` that must end with exit code 2."""
    stack = Stack(folder, settings, port)
    stack.start()
    try:
        assert stack.wait(patience(20)) == 2, stack.output
    finally:
        stack.close()
    assert stack.output.count("\n") == 1, stack.output
    return stack.output


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """In a folder that was there before, that others may enter, and that has a strange name."""
    folder = tmp_path_factory.mktemp("up") / STRANGE_NAME
    (folder / "data").mkdir(mode=0o755, parents=True)
    with closing(Stack(folder, GIVEN)) as running:
        running.start()
        running.wait_until_ready()
        yield running


def test_ready_means_that_everything_runs_and_answers(up: Stack) -> None:
    assert set(up.processes()) == {*PROCESSES, *EMBEDDED}
    for address in (up.base_url, up.gateway_url, up.bridge_url):
        assert address in up.output
    assert requests.get(f"{up.base_url}/health/live", timeout=patience(10)).status_code == 200
    assert f"{up.data / 'mail'}; addresses count as confirmed" in up.output
    page = requests.get(f"{up.gateway_url}/accounts/login/", timeout=patience(10))
    assert page.status_code == 200
    assert is_open(up.port + 1)


def test_given_servers_are_used_and_missing_ones_started(backend: Stack) -> None:
    given = {name for name in SERVER_URLS if name in backend.env}
    assert set(backend.processes()) == {*PROCESSES, *(set() if given else EMBEDDED)}
    for name in given:
        assert backend.settings()[name] == backend.env[name]
    assert requests.get(f"{backend.base_url}/health/ready", timeout=patience(10)).status_code == 200


def test_what_the_other_commands_need_is_found_by_data(up: Stack) -> None:
    assert GIVEN.items() <= running_settings(up.data).items()


def test_sigkill_of_the_supervisor_leaves_nothing(stack: StartStack) -> None:
    up = stack()
    processes = family(up)
    psutil.Process(up.pid).kill()
    assert up.wait() == -signal.SIGKILL
    wait_until(lambda: all_gone(processes), what="everything is gone")


@pytest.mark.parametrize("name", ["bridge", "web", "redis"])
def test_a_killed_child_starts_again_with_a_line_that_says_so(up: Stack, name: str) -> None:
    killed = up.kill(name)
    assert up.wait_until_replaced(name, killed) != killed
    assert f"{name} was killed by SIGKILL; it starts again in " in up.output
    if name == "web":
        wait_until(lambda: is_open(up.port), what="web listens again")
    if name == "redis":
        client = redis.Redis.from_url(up.settings()["REDIS_URL"])
        wait_until(lambda: _answers(client), what="Redis answers again")


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def test_what_it_writes_is_for_its_owner_alone(up: Stack) -> None:
    files = [path for path in up.data.rglob("*") if path.is_file()]
    assert up.data / "chatbus.sqlite3" in files
    assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_the_embedded_redis_never_drops_what_it_holds(up: Stack) -> None:
    client = redis.Redis.from_url(up.settings()["REDIS_URL"])
    assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    assert client.config_get("appendonly")["appendonly"] == "yes"
    assert client.config_get("appendfsync")["appendfsync"] == "always"


def test_sigterm_leaves_only_the_data_which_survive_a_restart(
    stack: StartStack, tmp_path: Path
) -> None:
    """Also those of Redis 6.2, which was the embedded one once."""
    old = tmp_path / "data" / "redis" / "appendonly.aof"
    old.parent.mkdir(parents=True)
    shutil.copy(REDIS_6_2, old)
    up = stack(folder=tmp_path)
    redis.Redis.from_url(up.settings()["REDIS_URL"]).set("kept", "yes")
    keys = (up.data / "secrets").read_text()
    processes = family(up)
    assert len(processes) >= len(PROCESSES) + len(EMBEDDED)
    assert up.stop() == 0
    assert all_gone(processes)
    assert not (up.data / "environment").exists()
    assert not (up.data / "processes.json").exists()
    assert "Traceback" not in up.output
    (tmp_path / "log").unlink()
    again = stack(folder=tmp_path)
    client = redis.Redis.from_url(again.settings()["REDIS_URL"], decode_responses=True)
    assert client.mget("kept", "kept-from-6.2") == ["yes", "yes"]
    assert client.hgetall("hash-from-6.2") == {"a": "1"}
    entries = [("1-1", {"event": "one"}), ("2-1", {"event": "two"})]
    assert client.xrange("log-from-6.2") == entries
    client.select(1)
    assert client.lrange("queue-from-6.2", 0, -1) == ["message"]
    assert (again.data / "secrets").read_text() == keys


def test_a_folder_may_have_any_name(up: Stack) -> None:
    """Redis reads the path in a file with rules of its own, SQLite as a part of a URL."""
    assert (up.data / "redis" / "redis.log").exists()
    assert list((up.data / "redis").glob("appendonlydir/*"))
    assert (up.data / "chatbus.sqlite3").exists()
    wait_until(lambda: is_well(up), what="all is well")


def is_well(up: Stack) -> bool:
    return "all is well" in chatbus("status", "--data", str(up.data)).stdout


@pytest.mark.parametrize("offset", [0, 1, 2, PORTS - 1])
def test_a_taken_port_is_named(tmp_path: Path, offset: int) -> None:
    port = free_ports(PORTS)
    with socket.create_server((HOST, port + offset)):
        line = refused(tmp_path, port)
    assert f"{HOST}:{port + offset}" in line
    assert "--port" in line


def test_a_second_up_on_the_same_folder_names_the_first(up: Stack, tmp_path: Path) -> None:
    other = Stack(tmp_path, {})
    other.data = up.data
    other.start()
    try:
        assert other.wait(patience(20)) == 2
    finally:
        other.close()
    assert other.output.count("\n") == 1
    assert f"process {up.pid}" in other.output
    assert is_open(up.port), "the first goes on"
    assert up.settings()["REDIS_URL"]


def test_a_setting_that_a_process_refuses_stops_all(tmp_path: Path) -> None:
    stack = Stack(tmp_path, {"WEB_THREADS": "many"})
    stack.start()
    try:
        assert stack.wait(patience(60)) == 2, stack.output
    finally:
        stack.close()
    assert "WEB_THREADS: 'many' is not a number" in stack.output
    assert "chatbus: web: refuses its settings" in stack.output
    assert "Traceback" not in stack.output


def test_a_stop_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    stack = Stack(tmp_path, {})
    stack.start()
    try:
        wait_until((stack.data / "processes.json").exists, what="it has children")
        processes = family(stack)
        assert processes
        assert stack.stop() == 0
        assert all_gone(processes)
    finally:
        stack.close()


def test_a_second_signal_forces(stack: StartStack) -> None:
    """A frozen process does not stop by itself."""
    up = stack()
    processes = family(up)
    up_process = psutil.Process(up.pid)
    with frozen(up.pid_of("gateway")):
        up_process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            up.wait(1)
        up_process.terminate()
        assert up.wait(patience(5)) == 0
    wait_until(lambda: all_gone(processes), what="everything is gone")
