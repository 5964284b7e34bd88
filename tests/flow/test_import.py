"""`chatbus import`: real lines through the exchange, both queues, MongoDB and the room logs."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.person import Person
from tests.support.stack import Stack
from tests.support.wait import wait_until

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


def test_everything_is_readable_in_order_and_a_second_run_changes_nothing(
    backend: Stack, reader: Person, tmp_path: Path
) -> None:
    rows = lines(1_000, f"{ROOM}-order-{backend.port}")
    file = write(tmp_path / "log.jsonl.gz", rows)
    output, _ = run_import(backend, file, "--member", reader.email)
    assert output.startswith("1,000 messages published, 0 were there, 0 lines malformed")
    room = room_named(reader, rows[0]["room"])
    wait_until(lambda: len(whole_history(reader, room)) == 1_000, 60, "the history is whole")
    history = whole_history(reader, room)
    assert [m["body"] for m in history] == [row["body"] for row in rows]
    assert [m["user"]["name"] for m in history] == [row["user"] for row in rows]
    assert [m["at"][:19] for m in history] == [row["at"][:19] for row in rows]

    with reader.open_socket() as socket:
        before = socket.subscribe(room)
    output, _ = run_import(backend, file, "--member", reader.email)
    assert output.startswith("0 messages published, 1,000 were there")
    with reader.open_socket() as socket:
        assert socket.subscribe(room) == before
    assert before["events"][-1]["data"]["body"] == rows[-1]["body"]


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
    assert output.startswith(f"2 messages published, 0 were there, {len(bad)} lines malformed")
    reported = [line.split(":")[0] for line in errors.splitlines() if line.startswith("line ")]
    assert reported == [f"line {number}" for number in range(2, len(bad) + 2)]
    room = room_named(reader, good["room"])
    wait_until(lambda: len(reader.history(room)) == 2, what="the good lines are stored")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["/nowhere.jsonl"], 2, "there is no file /nowhere.jsonl"),
        ([__file__, "--member", "nobody@example.test"], 1, "nobody is registered as"),
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
        command, env=settings, capture_output=True, text=True, timeout=60, check=False
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
    output, errors = importing.communicate(timeout=120)
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
