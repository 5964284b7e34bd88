"""A MySQL database that would lose text, or takes none, is refused before it does harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import chatbus
from tests.support.ports import HOST, free_port
from tests.support.servers import MariaDB

READINESS = (
    "from webapp.project import setup; setup();"
    "from webapp.project.health import database; print(database())"
)

BOUNDS = (
    "from webapp.project import setup; setup();"
    "from webapp.project.database import lift_bounds; lift_bounds();"
    "from django.db import connection; cursor = connection.cursor();"
    "cursor.execute('SELECT @@innodb_lock_wait_timeout'); [seconds] = cursor.fetchone();"
    "options = connection.settings_dict['OPTIONS'].items();"
    "print({name: value for name, value in options if 'timeout' in name}, seconds)"
)


class Database:
    def __init__(self, server: MariaDB) -> None:
        self._server = server
        self.url = server.fresh_database()
        self.name = self.url.rpartition("/")[2]
        nowhere = f"{HOST}:{free_port()}"
        self._settings = {
            "DATABASE_URL": self.url,
            "BROKER_URL": f"redis://{nowhere}/0",
            "MONGO_URL": f"mongodb://{nowhere}/chat",
            "SECRET_KEY": "only-for-tests" * 4,
            "TICKET_KEYS": f"test:{'k' * 32}",
        }

    def execute(self, *statements: str) -> str:
        return self._server.execute("; ".join((f"USE {self.name}", *statements)))

    def alter(self, what: str) -> None:
        self.execute("SET FOREIGN_KEY_CHECKS=0", f"ALTER {what}")

    def command(self, *words: str) -> tuple[int, str]:
        finished = chatbus(*words, **self._settings)
        return finished.returncode, finished.stderr

    def readiness(self) -> str:
        """What readiness says of the database: the text, or the name of the exception."""
        return self.run(READINESS)

    def run(self, program: str) -> str:
        """What ``program`` prints, or the last line of its error."""
        finished = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | self._settings,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return finished.stdout.strip() or finished.stderr.splitlines()[-1]


@pytest.fixture
def database(mariadb: MariaDB) -> Database:
    return Database(mariadb)


@pytest.fixture(scope="module")
def migrated(mariadb: MariaDB) -> Database:
    database = Database(mariadb)
    assert database.command("migrate") == (0, "")
    return database


def statements(errors: str) -> str:
    """The SQL that the error text gives."""
    return " ".join(line.strip() for line in errors.splitlines() if line.startswith("  "))


def test_migrate_changes_nothing_in_latin1_and_says_how_to_convert(database: Database) -> None:
    database.alter("DATABASE CHARACTER SET latin1")
    code, errors = database.command("migrate")
    assert code == 1
    assert "the database's character set is latin1, not utf8mb4" in errors
    assert "Traceback" not in errors
    assert database.execute("SHOW TABLES") == ""
    database.execute(statements(errors))
    assert database.command("migrate") == (0, "")


def test_tables_that_an_earlier_version_made_in_latin1_are_refused_and_converted(
    migrated: Database, tmp_path: Path
) -> None:
    assert migrated.readiness() == "None"
    for table in ("accounts_user", "rooms_room"):
        migrated.alter(f"TABLE {table} CONVERT TO CHARACTER SET latin1")
    problem = "tables with text that is not utf8mb4: accounts_user, rooms_room"
    assert migrated.readiness() == problem

    file = tmp_path / "log.jsonl"
    row = {"room": "r", "at": "2004-12-25T09:14:00Z", "user": "u", "body": "hi"}
    for field in ("user", "room"):
        file.write_text(json.dumps(row | {field: "owl 🦉"}))
        code, errors = migrated.command("import", str(file))
        assert (code, "the database: (1366" in errors) == (1, True), errors
        assert migrated.execute("SELECT * FROM accounts_user", "SELECT * FROM rooms_room") == ""

    code, errors = migrated.command("migrate")
    assert (code, problem in errors) == (1, True)
    migrated.execute(statements(errors))
    assert migrated.command("migrate") == (0, "")
    assert migrated.readiness() == "None"


def test_readiness_notices_a_read_only_server(mariadb: MariaDB, migrated: Database) -> None:
    with mariadb.read_only():
        assert migrated.readiness() == "takes no writes: error 1290"
    assert migrated.readiness() == "None"


def test_readiness_reads_a_table(migrated: Database) -> None:
    migrated.alter("TABLE accounts_user RENAME TO elsewhere")
    try:
        assert "accounts_user' doesn't exist" in migrated.readiness()
    finally:
        migrated.alter("TABLE elsewhere RENAME TO accounts_user")


def test_migrate_may_take_longer_than_a_request(migrated: Database) -> None:
    """An ALTER TABLE of a large table takes minutes."""
    assert migrated.run(BOUNDS) == "{'connect_timeout': 5} 50"
