"""The whole way of a message, on embedded servers and on real ones, directly and held."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.person import PASSWORD, Person
from tests.support.stack import Stack
from tests.support.wait import wait_until


def test_two_people_chat_and_a_third_hears_nothing(site: str) -> None:
    alice, bob, carol = (Person.registered(site, name) for name in ("alice", "bob", "carol"))
    room = alice.make_room("garden")
    alice.invite(room, bob)
    carols = carol.make_room("elsewhere")
    assert [r["name"] for r in bob.api("GET", "rooms").json()["rooms"]] == ["garden"]

    with alice.open_socket() as hers, bob.open_socket() as his, carol.open_socket() as other:
        hers.subscribe(room)
        his.subscribe(room)
        other.subscribe(carols)
        other.send(type="subscribe", room_id=room)
        assert other.next("error")["code"] == "forbidden"

        message_id = alice.post(room, "héllo 🙂 <script>alert(1)</script>")
        for socket in (hers, his):
            event = socket.message("héllo 🙂 <script>alert(1)</script>")["event"]
            assert event["id"] == message_id
            assert event["actor"]["name"] == "alice"

        carol.post(carols, "all alone")
        other.message("all alone")
        assert [f for f in other.frames if f.get("room_id") == room and f["type"] == "event"] == []

    stored = wait_until(lambda: alice.history(room), what="the history has the message")
    assert [m["id"] for m in stored] == [message_id]
    assert carol.api("GET", f"rooms/{room}/messages").status_code == 403
    assert carol.api("POST", f"rooms/{room}/messages", {"body": "x"}).status_code == 403


def test_who_is_invited_hears_of_it_and_comes_in_on_the_same_socket(site: str) -> None:
    alice, bob = (Person.registered(site, name) for name in ("alice", "bob"))
    room = alice.make_room("garden")
    with bob.open_socket() as socket:
        socket.subscribe(socket.channel)
        alice.invite(room, bob)
        for kind in ("user.invited", "user.joined"):
            frame = socket.event(kind)
            assert (frame["room_id"], frame["event"]["room_id"]) == (socket.channel, room)
        socket.send(type="authenticate", ticket=bob.ticket()["ticket"])
        socket.next("ready")
        socket.subscribe(room)
        alice.post(room, "hello bob")
        socket.message("hello bob")

        [bobs] = [m for m in alice.members(room) if m["name"] == "bob"]
        assert alice.api("DELETE", f"rooms/{room}/members/{bobs['id']}").status_code == 204
        socket.event("user.left")
    assert [frame for frame in socket.frames if frame["type"] == "presence"] == [
        frame for frame in socket.frames if frame["type"] == "presence" and frame["room_id"] == room
    ]
    with alice.open_socket() as other:
        other.send(type="subscribe", room_id=socket.channel)
        assert other.next("error")["code"] == "forbidden"


def test_clicks_at_the_same_time_make_one_room(site: str) -> None:
    alice = Person.registered(site, "alice")
    key = {"Idempotency-Key": "click"}
    with ThreadPoolExecutor(4) as pool:
        clicks = [
            pool.submit(alice.api, "POST", "rooms", {"name": "garden"}, **key) for _ in range(4)
        ]
        answers = [click.result() for click in clicks]
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(alice.api("GET", "rooms").json()["rooms"]) == 1


def test_who_was_away_catches_up_without_a_gap(backend: Stack) -> None:
    alice = Person.registered(backend.base_url, "alice")
    room = alice.make_room("garden")
    with alice.open_socket() as socket:
        socket.subscribe(room)
        alice.post(room, "before")
        seen = socket.message("before")
    missed = [alice.post(room, f"while away {number}") for number in range(20)]
    with alice.open_socket() as socket:
        wait_until(lambda: len(alice.history(room)) == 21)
        answer = socket.subscribe(room, {"epoch": seen["epoch"], "offset": seen["offset"]})
        assert answer["recovered"]
        caught_up = [event["id"] for event in answer["events"]]
        while len(caught_up) < len(missed):
            caught_up.append(socket.next("event")["event"]["id"])
    assert caught_up == missed


def test_who_is_removed_hears_nothing_of_what_follows(backend: Stack) -> None:
    alice, bob = (Person.registered(backend.base_url, name) for name in ("alice", "bob"))
    room = alice.make_room("garden")
    alice.invite(room, bob)
    members = alice.api("GET", f"rooms/{room}/members").json()["members"]
    [bobs_id] = [member["id"] for member in members if member["name"] == "bob"]
    with alice.open_socket() as hers, bob.open_socket() as his:
        hers.subscribe(room)
        his.subscribe(room)
        alice.post(room, "hello bob")
        his.message("hello bob")
        assert alice.api("DELETE", f"rooms/{room}/members/{bobs_id}").status_code == 204
        alice.post(room, "bob is gone")
        hers.message("bob is gone")
        assert his.next("unsubscribed")["reason"] == "removed"
        his.send(type="ping")
        his.next("pong")
        assert "bob is gone" not in str(his.frames)
        his.send(type="subscribe", room_id=room)
        assert his.next("error")["code"] == "forbidden"
    assert bob.api("GET", f"rooms/{room}/messages").status_code == 403


def test_history_is_paged_backwards_in_order(backend: Stack) -> None:
    alice = Person.registered(backend.base_url, "alice")
    room = alice.make_room("garden")
    posted = [alice.post(room, f"{number}") for number in range(25)]
    wait_until(lambda: len(alice.history(room)) == 25)
    pages: list[list[str]] = []
    before = ""
    while page := alice.history(room, f"limit=10{before}"):
        pages.append([message["id"] for message in page])
        before = f"&before={page[0]['id']}"
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [message for page in reversed(pages) for message in page] == posted


@pytest.mark.parametrize("process", ["web", "mongo_writer", "redis_publisher", "bridge"])
def test_any_process_may_be_killed_and_nothing_accepted_is_lost(
    backend: Stack, process: str
) -> None:
    alice = Person.registered(backend.base_url, "alice")
    room = alice.make_room("garden")
    accepted = [alice.post(room, f"before {number}") for number in range(5)]
    pid = backend.kill(process)
    backend.wait_until_replaced(process, pid)
    wait_until(alice.is_served, what="the web tier is ready")
    wait_until(backend.bridge_is_ready, what="the bridge is ready")
    accepted += [alice.post(room, f"after {number}") for number in range(5)]
    wait_until(lambda: len(alice.history(room)) >= 10, what="ten messages in the history")
    assert [message["id"] for message in alice.history(room)] == accepted

    def in_log() -> bool:
        with alice.open_socket() as socket:
            answer = socket.subscribe(room)
        ids = [e["id"] for e in answer["events"] if e["type"] == "message.posted"]
        return ids == accepted

    wait_until(in_log, what="ten messages in the room's log, in order")


def test_a_log_out_ends_the_sockets_of_that_session_only(site: str) -> None:
    alice = Person.registered(site, "alice")
    elsewhere = Person(site, "alice")
    elsewhere.submit("/accounts/login/", login=alice.email, password=PASSWORD)
    room = alice.make_room("garden")
    with alice.open_socket() as hers, elsewhere.open_socket() as phone:
        hers.subscribe(room)
        phone.subscribe(room)
        alice.submit("/rooms/", action="/accounts/logout/")
        with pytest.raises(ConnectionClosed) as closed:
            hers.next("never")
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 4401
        elsewhere.post(room, "still here")
        phone.message("still here")
