"""The web process on MariaDB, with its broker behind a proxy: killed, and raced."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import requests

from tests.support.person import Person
from tests.support.ports import HOST, free_port
from tests.support.proxy import Proxy
from tests.support.servers import PASSWORD as REDIS_PASSWORD
from tests.support.wait import patience, wait_until
from tests.unit.webapp.conftest import SETTINGS

RACES = 20


@pytest.fixture
def proxy(broker):
    with Proxy(broker.port) as proxy:
        yield proxy


@pytest.fixture
def database(mariadb):
    url = mariadb.fresh_database()
    subprocess.run(
        [sys.executable, "-m", "deploy.cli", "migrate"],
        env=SETTINGS | {"DATABASE_URL": url},
        check=True,
        timeout=patience(60),
    )
    return url


@pytest.fixture
def web(start, proxy, database):
    return start(
        "webapp.project.server",
        WEB_PORT=str(free_port()),
        ALLOWED_HOSTS=HOST,
        DATABASE_URL=database,
        BROKER_URL=f"redis://:{REDIS_PASSWORD}@{HOST}:{proxy.port}/0",
    )


@pytest.fixture
def alice(web):
    return Person.registered(f"http://{HOST}:{web.settings['WEB_PORT']}", "alice")


def test_what_a_killed_process_had_committed_is_published_by_the_relay(
    start, web, alice, proxy, broker, mariadb, database
):
    def pending():
        name = database.rpartition("/")[2]
        return int(mariadb.execute(f"SELECT COUNT(*) FROM {name}.outbox_outboxevent"))

    def make_room():
        with suppress(requests.ConnectionError):
            alice.make_room("Kitchen")

    alice.make_room("Hall")
    assert [event.type for event in broker.taken()] == ["room.created", "member.added"]
    proxy.black_hole()
    request = threading.Thread(target=make_room)
    request.start()
    wait_until(lambda: pending() == 3, what="the room is committed, its events are not published")
    web.kill()
    request.join()
    assert pending() == 3
    proxy.forward()

    start("webapp.outbox.relay", DATABASE_URL=database)
    wait_until(lambda: pending() == 0)
    published = broker.taken()
    assert [event.type for event in published] == ["room.created", "member.added"]
    assert published[0].data.name == "Kitchen"


def test_two_requests_at_once_with_one_key_are_one_message(alice, broker):
    room_id = alice.make_room("Hall")
    twin = Person(alice.site, "alice")
    twin.session.cookies.update(alice.session.cookies)
    broker.taken()

    def post(person, key):
        barrier.wait()
        return person.api(
            "POST", f"rooms/{room_id}/messages", {"body": "hi"}, **{"Idempotency-Key": key}
        )

    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        for number in range(RACES):
            answers = list(pool.map(post, (alice, twin), [f"key-{number}"] * 2))
            assert [answer.status_code for answer in answers] == [202, 202]
            ids = {answer.json()["id"] for answer in answers}
            assert len(ids) == 1
            # Whoever was second may have published it again: every sink ignores a known id.
            assert {str(event.id) for event in broker.taken()} == ids
