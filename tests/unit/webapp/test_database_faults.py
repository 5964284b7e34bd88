"""The web process while its MariaDB is away, takes no writes, is full, or locks rows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.conftest import run_server
from tests.support.galera import Galera
from tests.support.person import PASSWORD, Person
from tests.support.ports import HOST, free_port
from tests.support.wait import patience, wait_until
from tests.unit.webapp.conftest import SETTINGS, Broker, Started

MOST_ROOMS = 300


@pytest.fixture(scope="module")
def database() -> Iterator[Galera]:
    yield from run_server(Galera())


@pytest.fixture(scope="module")
def site(
    database: Galera, _broker_server: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a web process."""
    url = database.database("chatbus")
    subprocess.run(
        [sys.executable, "-m", "deploy.cli", "migrate"],
        env=SETTINGS | {"DATABASE_URL": url},
        check=True,
        timeout=patience(60),
    )
    port = free_port()
    web = Started(
        "webapp.project.server",
        tmp_path_factory.mktemp("web"),
        WEB_PORT=str(port),
        ALLOWED_HOSTS=HOST,
        DATABASE_URL=url,
        LIMIT_ROOMS="off",
    )
    yield f"http://{HOST}:{port}"
    web.kill()


@pytest.fixture
def alice(site: str, broker: Broker) -> Person:
    person = Person.registered(site, "alice")
    wait_until(person.is_served, what="what was broken before works again")
    return person


def rooms(person: Person) -> list[str]:
    answer = person.api("GET", "rooms")
    assert answer.status_code == 200, answer.text
    return [room["name"] for room in answer.json()["rooms"]]


def is_refused(answer: requests.Response) -> bool:
    """Whether it is a 503 that says when to come again, in the form that fits the address."""
    if answer.status_code != 503:
        return False
    assert int(answer.headers["Retry-After"]) > 0
    if "/api/" in answer.url:
        assert answer.json()["error"]["code"] == "unavailable"
    else:
        assert "Try again in a moment." in answer.text
    return True


def is_waiting(database: Galera) -> bool:
    """Whether a transaction waits for a lock."""
    return database.status("Innodb_row_lock_current_waits") != "0"


def checks_of(person: Person) -> dict[str, str]:
    checks: dict[str, str] = person.get("/health/ready").json()["checks"]
    return checks


def log_in(person: Person) -> requests.Response:
    """In another browser, which has the page already."""
    token = person.session.cookies["csrftoken"]
    data = {"login": person.email, "password": PASSWORD, "csrfmiddlewaretoken": token}
    stranger = requests.Session()
    stranger.cookies["csrftoken"] = token
    return stranger.post(f"{person.site}/accounts/login/", data=data, timeout=patience(60))


@pytest.mark.parametrize("fault", ["down", "without_quorum"])
def test_every_request_is_503_while_the_database_is_away(
    alice: Person, database: Galera, fault: str
) -> None:
    room_id = alice.make_room("Hall")
    token = alice.session.cookies["csrftoken"]
    with getattr(database, fault)():
        assert is_refused(alice.api("POST", f"rooms/{room_id}/messages", {"body": "hi"}))
        assert is_refused(alice.api("POST", "rooms", {"name": "Cellar"}))
        assert is_refused(alice.api("GET", "rooms"))
        # Who is logged in is asked by a middleware here.
        assert is_refused(alice.api("POST", "rooms", {"name": "Cellar"}, **{"X-CSRFToken": ""}))
        assert is_refused(alice.get("/rooms/"))
        assert is_refused(log_in(alice))
        wait_until(lambda: checks_of(alice)["database"] != "ok", what="readiness says so")
        assert alice.get("/health/live").ok
    assert token == alice.session.cookies["csrftoken"]
    wait_until(alice.is_served, what="the web tier uses the database again")
    assert rooms(alice) == ["Hall"]
    alice.post(room_id, "hi")


def test_a_read_only_database_is_read_and_its_readers_are_told(
    alice: Person, database: Galera
) -> None:
    room_id = alice.make_room("Hall")
    connections = database.connections()
    assert connections
    with database.read_only():
        assert rooms(alice) == ["Hall"]
        assert is_refused(alice.api("POST", "rooms", {"name": "Cellar"}))
        key = {"Idempotency-Key": "key"}
        assert is_refused(alice.api("POST", f"rooms/{room_id}/messages", {"body": "hi"}, **key))
        assert is_refused(log_in(alice))
        # Else a thread would stay with this server for a minute, wherever a proxy leads by then.
        wait_until(
            lambda: (
                is_refused(alice.api("POST", "rooms", {"name": "Cellar"}))
                and connections.isdisjoint(database.connections())
            ),
            timeout=10,
            what="all threads have connected anew",
        )
        refusal = "takes no writes: error 1290"
        wait_until(lambda: checks_of(alice)["database"] == refusal, what="readiness says so")
        assert not alice.is_served()
    assert rooms(alice) == ["Hall"]


def test_on_a_full_disk_nothing_is_accepted_that_is_not_kept(
    alice: Person, database: Galera
) -> None:
    accepted = ["Hall"]
    alice.make_room("Hall")
    with database.full():
        # A page that is not full takes some more.
        for number in range(MOST_ROOMS):
            answer = alice.api("POST", "rooms", {"name": f"{number:03} {'x' * 90}"})
            if is_refused(answer):
                break
            assert answer.status_code == 201, answer.text
            accepted.append(answer.json()["name"])
        assert len(accepted) < MOST_ROOMS
        assert sorted(rooms(alice)) == sorted(accepted)
    alice.make_room("Cellar")


def test_a_transaction_that_was_undone_for_a_deadlock_is_made_again(
    alice: Person, database: Galera
) -> None:
    deadlocks = int(database.status("Innodb_deadlocks"))
    with database.connect() as other, ThreadPoolExecutor(1) as pool:
        other.query("USE chatbus")
        # The server undoes the transaction that has changed less.
        other.query(
            "INSERT INTO outbox_outboxlogout (user_id, session, created_at)"
            " SELECT seq, '', NOW() FROM seq_1_to_100"
        )
        # With the gaps between them, where a new one would go.
        other.query("SELECT * FROM rooms_room FOR UPDATE")
        other.store_result()
        request = pool.submit(alice.make_room, "Hall")
        wait_until(lambda: request.done() or is_waiting(database), what="the request waits")
        assert not request.done(), request.result()
        other.query("SELECT * FROM accounts_user FOR UPDATE")
        other.store_result()
        assert int(database.status("Innodb_deadlocks")) == deadlocks + 1
        other.rollback()
        request.result()
    assert rooms(alice) == ["Hall"]


def test_a_transaction_that_waited_in_vain_for_a_lock_waits_once_more(
    alice: Person, database: Galera
) -> None:
    waits = int(database.status("Innodb_row_lock_waits"))
    with database.connect() as other, ThreadPoolExecutor(1) as pool:
        other.query("USE chatbus")
        other.query(f"SELECT id FROM accounts_user WHERE email = '{alice.email}' FOR UPDATE")
        other.store_result()
        request = pool.submit(alice.make_room, "Hall")
        wait_until(lambda: int(database.status("Innodb_row_lock_waits")) >= waits + 2)
        other.rollback()
        request.result()
    assert rooms(alice) == ["Hall"]
