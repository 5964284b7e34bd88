"""The history's one promise: any order and any repetition of events give the same document."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from bus.errors import PermanentError, SettingError, StoreUnavailable
from bus.events import Event
from consumers.mongo_writer import EMBEDDED, MongoWriter, _duplicates, open_messages
from tests.support.events import deleted, edited, posted
from tests.support.ports import HOST, free_port
from tests.support.servers import Secantus


@pytest.fixture(params=["mongo_server", "secantus"])
def mongo(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database on each server."""
    server = request.getfixturevalue(request.param)
    url: str = server.fresh_database() if isinstance(server, Secantus) else server()
    return url


def stored(url: str, batches: Sequence[Sequence[Event]]) -> dict[str, Any]:
    """The collection after ``batches``, without the time of storing, and emptied again."""
    messages = open_messages(url)
    try:
        writer = MongoWriter(messages)
        for batch in batches:
            writer.store(batch)
        documents = {document.pop("_id"): document for document in messages.find()}
        messages.delete_many({})
    finally:
        messages.database.client.close()
    assert all(document.pop("stored_at") for document in documents.values())
    return documents


def test_every_order_of_a_messages_life_ends_the_same(mongo: str) -> None:
    message = posted("first")
    life: list[Event] = [message, edited(message, "second"), edited(message, "third")]
    life.append(deleted(message))
    expected = stored(mongo, [life])
    [document] = expected.values()
    assert (document["body"], document["edited_at"]) == ("", None)
    assert document["deleted_at"] == life[-1].at
    for order in itertools.permutations(life):
        assert stored(mongo, [[event] for event in order]) == expected
        assert stored(mongo, [order, order]) == expected


def test_an_edited_message_keeps_author_time_and_latest_text(mongo: str) -> None:
    message = posted("first")
    change = edited(message, "second")
    for batches in ([[message, change]], [[change], [message]], [[change, message], [message]]):
        [document] = stored(mongo, batches).values()
        assert document["body"] == "second"
        assert document["user"] == {"id": 1, "name": "alice"}
        assert document["at"] == message.at
        assert document["edited_at"] == change.at
        assert document["room_id"] == str(message.room_id)


def test_an_edit_that_another_writers_posting_overtakes_is_kept(
    mongo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = posted("first")

    def overtaken(*arguments: object, **options: object) -> None:
        """What the server does when the posting comes between an upsert's search and insert."""
        monkeypatch.undo()
        MongoWriter(messages).store([message])
        duplicate = {"index": 0, "code": 11_000, "errmsg": "E11000 duplicate key"}
        raise BulkWriteError({"writeErrors": [duplicate], "writeConcernErrors": []})

    messages = open_messages(mongo)
    monkeypatch.setattr(Collection, "bulk_write", overtaken)
    MongoWriter(messages).store([edited(message, "second")])
    [document] = messages.find()
    messages.database.client.close()
    assert document["body"] == "second"


def test_repeated_overlapping_batches_store_each_message_once(mongo: str) -> None:
    sent = [posted(f"{number}") for number in range(300)]
    generator = random.Random(7)
    batches = [generator.sample(sent, 120) for _ in range(20)]
    expected = {str(event.id) for batch in batches for event in batch}
    assert set(stored(mongo, batches)) == expected


def test_a_database_that_is_away_is_not_the_events_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.mongo_writer.TIMEOUT_MS", 300)
    messages = open_messages(f"mongodb://{HOST}:{free_port()}/chat")
    with pytest.raises(StoreUnavailable):
        MongoWriter(messages).store([posted()])
    messages.database.client.close()


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(11_600, StoreUnavailable), (14_031, StoreUnavailable), (121, PermanentError)],
)
def test_only_errors_of_the_document_itself_are_permanent(
    code: int, outcome: type[Exception]
) -> None:
    failure = {"index": 0, "code": code, "errmsg": "because"}
    error = BulkWriteError({"writeErrors": [failure], "writeConcernErrors": []})
    with pytest.raises(outcome):
        _duplicates(error)


def test_a_url_that_mongodb_refuses_names_the_setting() -> None:
    with pytest.raises(SettingError, match="MONGO_URL"):
        open_messages("mongodb://localhost:port/chat")


def test_history_pages_have_their_index(mongo: str) -> None:
    messages = open_messages(mongo)
    MongoWriter(messages).store([posted()])
    fields = [list(dict(index["key"])) for index in messages.list_indexes()]
    server = messages.database.client.admin.command("buildInfo")
    messages.database.client.close()
    assert ["room_id", "id"] in fields
    assert (["room_id"] in fields) == (server.get("process") == EMBEDDED)


@pytest.mark.parametrize("option", ["maxPoolSize=many", "retryWrites=x", "tls=true&tlsCAFile=/no"])
def test_an_option_with_a_bad_value_is_refused(option: str) -> None:
    with pytest.raises(SettingError, match="MONGO_URL: "):
        open_messages(f"mongodb://h/chat?{option}")
