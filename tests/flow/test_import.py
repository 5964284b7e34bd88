"""`chatbus import`: real lines through the exchange, both queues, MongoDB and the room logs."""

from __future__ import annotations

import codecs
import gzip
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support.person import Person
from tests.support.stack import Stack
from tests.support.wait import patience, wait_until

ROOM = "café-2004-12-25"


def lines(number: int, room: str = ROOM) -> list[dict[str, Any]]:
    """Messages of one room, three of them in every second."""
    return [
        {
            "room": room,
            "at": f"2004-12-25T{n // 3 // 3600:02}:{n // 3 // 60 % 60:02}:{n // 3 % 60:02}Z",
            "user": ("|QuaD-", "Will", "will", "☃", "a" * 80)[n % 5],
            "body": f"{n}: odd text “ \u2028 \\ <b> 🙂",
        }
        for n in range(number)
    ]


def write(path: Path, rows: list[Any]) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def start_import(stack: Stack, file: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "import", str(file), *options],
        env=stack.settings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_import(stack: Stack, file: Path, *options: str, code: int = 0) -> tuple[str, str]:
    process = start_import(stack, file, *options)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == code, (process.returncode, output, errors)
    return output, errors


@pytest.fixture
def reader(backend: Stack) -> Person:
    return Person.registered(backend.base_url, "reader")


def whole_history(person: Person, room: str) -> list[dict[str, Any]]:
    pages: list[list[dict[str, Any]]] = []
    query = "limit=200"
    while page := person.history(room, query):
        pages.insert(0, page)
        query = f"limit=200&before={page[0]['id']}"
    return [message for page in pages for message in page]


def room_named(person: Person, name: str) -> str:
    rooms = person.api("GET", "rooms").json()["rooms"]
    [found] = [room["id"] for room in rooms if room["name"] == name]
    return str(found)


def settled_log(person: Person, room: str, offset: int) -> dict[str, Any]:
    """What a new subscriber gets, as soon as the room's log has reached ``offset``."""

    def subscribed() -> dict[str, Any] | None:
        with person.open_socket() as socket:
            answer: dict[str, Any] = socket.subscribe(room)
        return answer if answer["offset"] == offset else None

    found = wait_until(subscribed, 60, "the log is whole")
    assert found
    return found


def roles(person: Person, room: str) -> dict[str, str]:
    """The roles of the members by name, but for those who cannot log in."""
    members = person.api("GET", f"rooms/{room}/members").json()["members"]
    return {member["name"]: member["role"] for member in members if member["name"] != "Will"}


def test_everything_is_readable_in_order_and_a_second_run_changes_nothing(
    backend: Stack, reader: Person, tmp_path: Path
) -> None:
    rows = lines(1_000, f"{ROOM}-order-{backend.port}")
    file = write(tmp_path / "log.jsonl.gz", rows)
    output, _ = run_import(backend, file, "--member", reader.email)
    assert output.startswith("1,000 messages stored, 0 were there, 0 lines malformed")
    room = room_named(reader, rows[0]["room"])
    history = whole_history(reader, room)
    assert [m["body"] for m in history] == [row["body"] for row in rows]
    assert [m["user"]["name"] for m in history] == [row["user"] for row in rows]
    assert [m["at"][:19] for m in history] == [row["at"][:19] for row in rows]

    before = settled_log(reader, room, 1_001)
    output, _ = run_import(backend, file, "--member", reader.email)
    assert output.startswith("0 messages stored, 1,000 were there")
    with reader.open_socket() as socket:
        assert socket.subscribe(room) == before
    assert before["events"][-1]["data"]["body"] == rows[-1]["body"]


def test_every_line_is_stored_in_the_order_of_the_file(
    backend: Stack, reader: Person, tmp_path: Path
) -> None:
    """The file has a byte-order mark, odd times, many lines of one time, and grows."""

    def row(at: str, body: str) -> dict[str, str]:
        return {"room": f"{ROOM}-odd-{backend.port}", "at": at, "user": "Will", "body": body}

    rows = [
        *(row(f"2004-12-25T09:14:00.0001{number}Z", f"{number}") for number in range(8)),
        *(row("2004-12-25t09:14:01z", f"{number} of one second") for number in range(400)),
        *(row("2004-12-25T09:15:00Z", "ok") for _ in range(1_100)),
        row("2004-12-25T09:16:02Z", "x"),
        row("2004-12-25T23:59:59.9999Z", "end of the day"),
        row("2004-12-25T23:59:60Z", "leap second"),
    ]
    again = row("2004-12-25T09:15:00Z", "ok")
    file = tmp_path / "log.jsonl"
    file.write_bytes(codecs.BOM_UTF8 + "".join(json.dumps(row) + "\n" for row in rows).encode())
    output, _ = run_import(backend, file, "--member", reader.email)
    assert output.startswith(f"{len(rows):,} messages stored, 0 were there, 0 lines malformed")
    room = room_named(reader, rows[0]["room"])
    history = whole_history(reader, room)
    assert [message["body"] for message in history] == [row["body"] for row in rows]
    assert {message["at"][:10] for message in history} == {"2004-12-25"}

    output, _ = run_import(backend, write(file, [*rows, again]))
    assert output.startswith(f"1 messages stored, {len(rows):,} were there, 0 lines malformed")
    assert len(whole_history(reader, room)) == len(rows) + 1


def test_two_imports_at_once_store_each_line_once(
    backend: Stack, reader: Person, tmp_path: Path
) -> None:
    rows = lines(700, f"{ROOM}-twice-{backend.port}")
    file = write(tmp_path / "log.jsonl", rows)
    running = [start_import(backend, file, "--member", reader.email) for _ in range(2)]
    for process in running:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, (output, errors)
    room = room_named(reader, rows[0]["room"])
    assert [m["body"] for m in whole_history(reader, room)] == [row["body"] for row in rows]
    settled_log(reader, room, 701)


class TestOwner:
    """Of the rooms that an import makes or finds."""

    @pytest.fixture
    def file(self, backend: Stack, tmp_path: Path) -> Path:
        row = lines(2)[1]
        return write(tmp_path / "log.jsonl", [row | {"room": f"owned {uuid.uuid4()}"}])

    def room(self, person: Person, file: Path) -> str:
        return room_named(person, json.loads(file.read_text())["room"])

    def test_the_first_member_owns_new_rooms(
        self, backend: Stack, reader: Person, file: Path
    ) -> None:
        other = Person.registered(backend.base_url, "other")
        run_import(backend, file, "--member", reader.email, "--member", other.email)
        expected = {reader.name: "owner", other.name: "member"}
        assert roles(reader, self.room(reader, file)) == expected

    def test_an_owner_is_given_and_stays(self, backend: Stack, reader: Person, file: Path) -> None:
        other = Person.registered(backend.base_url, "other")
        run_import(backend, file, "--member", reader.email, "--owner", other.email)
        run_import(backend, file, "--owner", reader.email)
        expected = {reader.name: "member", other.name: "owner"}
        assert roles(reader, self.room(reader, file)) == expected

    def test_a_room_without_owner_gets_one_by_another_import(
        self, backend: Stack, reader: Person, file: Path
    ) -> None:
        output, _ = run_import(backend, file)
        assert "rooms without an owner: 1; import again with --owner EMAIL" in output
        output, _ = run_import(backend, file, "--owner", reader.email)
        assert "without an owner" not in output
        room = self.room(reader, file)
        assert roles(reader, room) == {reader.name: "owner"}
        event = settled_log(reader, room, 2)["events"][-1]
        assert (event["type"], event["data"]["role"]) == ("member.added", "owner")


def test_malformed_lines_are_reported_by_number_and_the_rest_goes_on(
    backend: Stack, reader: Person, tmp_path: Path
) -> None:
    [good, also_good] = lines(2, f"{ROOM}-bad-{backend.port}")
    bad: list[Any] = [
        "{",
        "[]",
        good | {"body": ""},
        good | {"body": "x" * 4_001},
        good | {"body": "a\0b"},
        good | {"body": 7},
        good | {"at": "yesterday"},
        good | {"at": "2004-12-25T09:14:00"},
        good | {"at": "1969-12-31T23:59:59Z"},
        good | {"at": "9999-12-31T23:59:59-23:59"},
        good | {"room": ""},
        good | {"room": "x" * 101},
        good | {"user": " "},
        {"room": "x"},
        '{"room": "x", "at": "2004-12-25T09:14:00Z", "user": "u", "body": "\\ud800"}',
    ]
    file = write(tmp_path / "log.jsonl", [good, *bad, also_good])
    output, errors = run_import(backend, file, "--member", reader.email, code=3)
    assert output.startswith(f"2 messages stored, 0 were there, {len(bad)} lines malformed")
    reported = [line.split(":")[0] for line in errors.splitlines() if line.startswith("line ")]
    assert reported == [f"line {number}" for number in range(2, len(bad) + 2)]
    assert len(reader.history(room_named(reader, good["room"]))) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["/nowhere.jsonl"], 2, "there is no file /nowhere.jsonl"),
        ([__file__, "--member", "nobody@example.test"], 1, "--member: nobody is registered as"),
        ([__file__, "--owner", "nobody@example.test"], 1, "--owner: nobody is registered as"),
    ],
)
def test_bad_arguments(backend: Stack, arguments: list[str], code: int, message: str) -> None:
    _, errors = run_import(backend, Path(arguments[0]), *arguments[1:], code=code)
    assert message in errors
    assert "Traceback" not in errors


def test_without_a_database_it_says_so(backend: Stack, tmp_path: Path) -> None:
    file = write(tmp_path / "log.jsonl", list(lines(1)))
    settings = backend.settings() | {"DATABASE_URL": f"sqlite:///{tmp_path}/not-migrated.sqlite3"}
    command = [sys.executable, "-m", "deploy.cli", "import", str(file)]
    finished = subprocess.run(
        command, env=settings, capture_output=True, text=True, timeout=patience(60), check=False
    )
    assert finished.returncode == 1
    assert "the database: no such table" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_damaged_file_is_named(backend: Stack, tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps(lines(1)[0]).encode() * 50)
    file = tmp_path / "damaged.jsonl.gz"
    file.write_bytes(whole[: len(whole) // 2])
    _, errors = run_import(backend, file, code=1)
    assert "damaged" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("consumer", ["mongo_writer", "redis_publisher"])
def test_a_consumer_killed_in_the_middle_loses_and_doubles_nothing(
    backend: Stack, reader: Person, tmp_path: Path, consumer: str
) -> None:
    """SIGKILL, three times, while messages flow; the history and the log are whole after it."""
    rows = lines(6_000, f"{ROOM}-kill-{consumer}-{backend.port}")
    importing = start_import(backend, write(tmp_path / "log.jsonl", rows), "--member", reader.email)

    def some(number: int) -> bool:
        names = [room["name"] for room in reader.api("GET", "rooms").json()["rooms"]]
        if rows[0]["room"] not in names:
            return False
        room = room_named(reader, rows[0]["room"])
        if consumer == "mongo_writer":
            return len(whole_history(reader, room)) > number
        with reader.open_socket() as socket:
            return int(socket.subscribe(room)["offset"]) > number

    for kill in range(3):
        wait_until(lambda number=kill * 1_000: some(number), 60, "messages arrive")
        backend.wait_until_replaced(consumer, backend.kill(consumer))
    output, errors = importing.communicate(timeout=patience(120))
    assert importing.returncode == 0, (output, errors)

    room = room_named(reader, rows[0]["room"])
    wait_until(lambda: len(whole_history(reader, room)) >= 6_000, 90, "the history is whole")
    assert [m["body"] for m in whole_history(reader, room)] == [row["body"] for row in rows]

    def logged() -> int:
        with reader.open_socket() as socket:
            return int(socket.subscribe(room)["offset"])

    # One event says that the reader became a member.
    wait_until(lambda: logged() >= 6_001, 90, "the log is whole")
    assert logged() == 6_001
    with reader.open_socket() as socket:
        latest = [e["data"].get("body") for e in socket.subscribe(room)["events"]]
    assert latest == [row["body"] for row in rows[-len(latest) :]]
