"""Two web servers whose clocks are seconds apart keep one order of a conversation."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
import requests

from tests.conftest import fail_or_skip
from tests.support.clock import FakeClock
from tests.support.command import COMMAND
from tests.support.person import Person
from tests.support.ports import HOST, free_ports
from tests.support.servers import ServerMissing
from tests.support.stack import Stack
from tests.support.wait import wait_until

SECONDS_BEHIND = 3


@pytest.fixture(scope="module")
def late_site(backend: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a second web server of the same stack."""
    folder = tmp_path_factory.mktemp("late")
    try:
        clock = FakeClock(folder, -SECONDS_BEHIND)
    except ServerMissing as error:
        fail_or_skip(error)
    port = free_ports(2)
    ports = {"WEB_PORT": str(port), "OPS_PORT": str(port + 1), "NOTIFY_SOCKET": ""}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "run", "web"],
            env=os.environ | backend.settings() | ports | clock.environment,
            stderr=log,
        )
    site = f"http://{HOST}:{port}"
    try:
        wait_until(lambda: is_ready(site), what="the second web server is ready")
        yield site
    finally:
        process.terminate()
        process.wait()


def is_ready(site: str) -> bool:
    try:
        return requests.get(f"{site}/health/ready", timeout=5).ok
    except requests.ConnectionError:
        return False


def at(site: str, person: Person) -> Person:
    """The same person with the same log-in, at another server."""
    other = Person(site, person.name)
    other.session.cookies.update(person.session.cookies)
    return other


def test_a_conversation_through_both_is_in_order(backend: Stack, late_site: str) -> None:
    alice = Person.registered(backend.base_url, "alice")
    late_alice = at(late_site, alice)
    room_id = alice.make_room("Harbour")
    ids = [who.post(room_id, str(n)) for n in range(4) for who in (alice, late_alice)]
    assert ids == sorted(ids)
    wait_until(lambda: len(alice.history(room_id)) == len(ids))
    assert [message["id"] for message in alice.history(room_id)] == ids
    newer = late_alice.history(room_id, f"after={ids[0]}&limit=200")
    assert [message["id"] for message in newer] == ids[1:]


def test_the_second_one_says_that_its_clock_is_behind(backend: Stack, late_site: str) -> None:
    alice = Person.registered(backend.base_url, "alice")
    at(late_site, alice).make_room("Harbour")
    ready = requests.get(f"{late_site}/health/ready", timeout=5)
    if backend.settings()["DATABASE_URL"].startswith("sqlite"):
        # SQLite has no clock but the process's own, which seems to have been set back.
        expected = "new ids are 3.0 s ahead of the database's clock"
    else:
        expected = "this machine's clock is 3.0 s behind the database's"
    assert ready.json()["checks"]["clock"] == expected
    assert ready.ok
