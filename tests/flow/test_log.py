"""A program that follows a room by HTTP alone, at the web tier and through the gateway."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.person import Person
from tests.support.wait import patience

Json = dict[str, Any]


def follow(reader: Person, room_id: str, position: Json, *, wait: int = 25) -> Json:
    query = f"epoch={position['epoch']}&offset={position['offset']}&wait={wait}"
    answer = reader.api("GET", f"rooms/{room_id}/log?{query}")
    assert answer.status_code == 200, answer.text
    content: Json = answer.json()
    return content


def test_what_is_posted_arrives_without_a_socket_and_in_order(site: str) -> None:
    alice, bob = Person.registered(site, "alice"), Person.registered(site, "bob")
    room_id = alice.make_room("Harbour")
    alice.invite(room_id, bob)
    position = bob.api("GET", f"rooms/{room_id}/log").json()
    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(lambda: [alice.post(room_id, str(n)) for n in range(20)])
        ids: list[str] = []
        while len(ids) < 20:
            position = follow(bob, room_id, position)
            assert position["recovered"]
            ids += [each["id"] for each in position["events"] if each["type"] == "message.posted"]
        assert ids == posting.result(patience(60))
