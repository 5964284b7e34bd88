"""What a database server answers about itself, by server and release."""

from types import SimpleNamespace

import pytest


@pytest.mark.parametrize(
    ("answer", "problems"),
    [(0, []), (1, ["read-only"]), ("OFF", []), ("ON", ["read-only"]), ("NO_LOCK", ["read-only"])],
)
def test_read_only_is_a_number_or_a_word(monkeypatch, answer, problems):
    """MySQL and MariaDB answer with a number, newer releases of MariaDB with a word."""
    from webapp.project import database

    monkeypatch.setattr(database, "connection", SimpleNamespace(vendor="mysql"))
    monkeypatch.setattr(database, "_row", lambda sql: (answer,))
    assert database._read_only() == problems
