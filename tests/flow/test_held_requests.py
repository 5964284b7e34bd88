"""The site behind the gateway: whole, and with its worker stopped or killed in the middle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import pytest
import requests

from bus.topology import WEB_REQUESTS
from tests.support.broker import waiting
from tests.support.freeze import frozen
from tests.support.person import PASSWORD, Person
from tests.support.stack import Stack
from tests.support.wait import patience, wait_until

CLIENTS = 16
# The worker's threads may have taken one request each before they were stopped.
IN_HAND = 4
STOPPED_SECONDS = 3.0
Answers = list[Future[requests.Response]]


@pytest.fixture
def alice(backend: Stack) -> Person:
    return Person.registered(backend.gateway_url, "alice")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(CLIENTS) as executor:
        yield executor


def wait_until_held(stack: Stack, answers: Answers) -> None:
    """Returns when the requests lie on the queue, but for what a stopped worker has in hand."""
    broker = stack.settings()["BROKER_URL"]
    least = len(answers) - IN_HAND
    wait_until(lambda: waiting(broker, WEB_REQUESTS.name) >= least, what=f"{least} requests wait")


def statuses(answers: Answers) -> Counter[int]:
    return Counter(answer.result().status_code for answer in answers)


def test_the_whole_site_is_there(alice: Person) -> None:
    page = alice.submit("/rooms/", name="Lighthouse")
    assert page.url.startswith(f"{alice.site}/rooms/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Lighthouse" in page.text

    left = alice.submit("/rooms/", name="Harbour")
    token = left.text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    form = {"csrfmiddlewaretoken": token}
    out = alice.session.post(f"{alice.site}/accounts/logout/", data=form, timeout=patience(60))
    assert out.url == f"{alice.site}/accounts/login/"
    assert alice.get("/rooms/").url.startswith(f"{alice.site}/accounts/login/")
    assert alice.api("GET", "rooms").status_code == 401

    back = alice.submit("/accounts/login/", login=alice.email, password=PASSWORD)
    assert back.url == f"{alice.site}/rooms/"
    assert "Harbour" in back.text
    assert alice.get("/nonsense/").status_code == 404


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("chat/room.js", "text/javascript"),
        ("project/base.css", "text/css"),
        ("project/icon.svg", "image/svg+xml"),
    ],
)
def test_static_files_have_their_type(backend: Stack, path: str, content_type: str) -> None:
    held = requests.get(f"{backend.gateway_url}/static/{path}", timeout=patience(60))
    direct = requests.get(f"{backend.base_url}/static/{path}", timeout=patience(60))
    assert held.status_code == 200
    assert held.headers["Content-Type"].split(";")[0] == content_type
    assert held.content == direct.content


def test_pages_wait_while_the_worker_is_stopped(
    backend: Stack, alice: Person, pool: ThreadPoolExecutor
) -> None:
    room = alice.make_room("garden")
    paths = [f"/rooms/{room}/", "/rooms/", f"/api/rooms/{room}/messages", "/static/chat/room.js"]
    with frozen(backend.pid_of("request_worker")):
        answers = [pool.submit(alice.get, path) for path in paths * (CLIENTS // len(paths))]
        wait_until_held(backend, answers)
        done, _ = wait(answers, STOPPED_SECONDS, FIRST_COMPLETED)
        assert not done, "answered by a stopped worker"
    assert statuses(answers) == {200: CLIENTS}
    assert all("garden" in answer.result().text for answer in answers[:: len(paths)])


def test_waiting_pages_outlive_their_worker(
    backend: Stack, alice: Person, pool: ThreadPoolExecutor
) -> None:
    pid = backend.pid_of("request_worker")
    with frozen(pid):
        answers = [pool.submit(alice.get, "/rooms/") for _ in range(CLIENTS)]
        wait_until_held(backend, answers)
        assert not any(answer.done() for answer in answers)
        backend.kill("request_worker")
        backend.wait_until_replaced("request_worker", pid)
    assert statuses(answers) == {200: CLIENTS}


def test_a_message_is_never_posted_twice(
    backend: Stack, alice: Person, pool: ThreadPoolExecutor
) -> None:
    """The worker is killed while it runs posts; no Idempotency-Key helps against a second run."""
    room = alice.make_room("garden")
    post = poster(alice, room)
    answers = [pool.submit(post, f"message {number}") for number in range(4 * CLIENTS)]
    wait_until(lambda: sum(answer.done() for answer in answers) >= CLIENTS, what="some answers")
    pid = backend.kill("request_worker")
    assert not all(answer.done() for answer in answers)
    backend.wait_until_replaced("request_worker", pid)

    found = statuses(answers)
    assert found.keys() == {202, 502}, "a post that the dead worker had in hand is answered 502"
    assert found[502] <= IN_HAND
    accepted = [answer.result().json()["id"] for answer in answers if answer.result().ok]
    last = alice.post(room, "the last one")
    wait_until(lambda: alice.history(room)[-1]["id"] == last, what="the history has all")
    history = alice.history(room)
    assert {*accepted, last} <= {message["id"] for message in history}
    assert max(Counter(message["body"] for message in history).values()) == 1


def poster(person: Person, room: str) -> Callable[[str], requests.Response]:
    def post(body: str) -> requests.Response:
        answer: requests.Response = person.api("POST", f"rooms/{room}/messages", {"body": body})
        return answer

    return post
