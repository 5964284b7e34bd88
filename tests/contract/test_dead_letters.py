"""Dead letters in an operator's hands, on each kind of broker: nothing lost, nothing disturbed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from typing import Any

import msgspec
import pytest

from bus import events
from bus.admin import dead_letters
from bus.admin.dead_letters import DeadLetterQueue, open_dead_letters
from bus.consuming.dead_letter import INVALID, REFUSED, DeadLetter, to_dead_letter
from bus.errors import BrokerUnavailable, PublishRefused, QueueBusy
from bus.message import Delivery, Message
from bus.publishing import Publisher
from bus.topology import EVENT_QUEUES, MONGO_WRITER, REDIS_PUBLISHER, Queue
from bus.transport import connect_admin, subscribe
from bus.transport.redis import admin as redis_admin
from tests.support.broker import depth, empty
from tests.support.dead_letters import TRACE, bury
from tests.support.events import posted
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import Redis
from tests.support.wait import wait_until

DEAD = MONGO_WRITER.dead_letters
assert DEAD


@pytest.fixture
def publisher(broker_url: str) -> Iterator[Publisher]:
    """On empty queues."""
    empty(broker_url)
    with closing(Publisher(broker_url)) as publisher:
        yield publisher


def bury_some(publisher: Publisher, number: int, reason: str = REFUSED) -> list[str]:
    return bury(publisher, [posted(f"{n}") for n in range(number)], reason=reason)


def take(url: str, queue: Queue, number: int) -> list[Delivery]:
    """Takes ``number`` messages off a queue that holds just as many."""
    taken: list[Delivery] = []
    with closing(subscribe(url, queue, prefetch=number + 1)) as source:
        wait_until(lambda: taken.extend(source.receive(number, 0.2)) or len(taken) >= number)
        assert source.receive(1, 0.1) == []
        source.ack(taken)
    return taken


def everything(letters: DeadLetterQueue) -> list[DeadLetter]:
    return [letter for batch in letters.read() for letter in batch]


def look(url: str, queue: Queue = MONGO_WRITER) -> list[DeadLetter]:
    with open_dead_letters(url, queue) as letters:
        return everything(letters)


def ids(letters: Sequence[DeadLetter | Delivery]) -> list[str | None]:
    return [
        letter.id if isinstance(letter, DeadLetter) else letter.message_id for letter in letters
    ]


def test_looking_leaves_everything_in_its_order(broker_url: str, publisher: Publisher) -> None:
    assert look(broker_url) == []
    buried = bury_some(publisher, 250)
    for _ in range(3):
        letters = look(broker_url)
        assert ids(letters) == buried
    assert {(x.reason, x.exception, x.attempts) for x in letters} == {
        (REFUSED, "ValueError: no", 3)
    }
    assert depth(broker_url, DEAD) == 250


def test_what_is_redriven_goes_to_its_queue_alone_and_the_rest_stays(
    broker_url: str, publisher: Publisher
) -> None:
    buried = bury_some(publisher, 10)
    chosen = [buried[n] for n in (0, 3, 4, 9)]
    with open_dead_letters(broker_url, MONGO_WRITER) as letters:
        letters.redrive(publisher, [x for x in everything(letters) if x.id in chosen])
    assert ids(look(broker_url)) == [message for message in buried if message not in chosen]
    assert depth(broker_url, REDIS_PUBLISHER) == 0
    assert ids(take(broker_url, MONGO_WRITER, 4)) == chosen


def test_a_redriven_message_is_as_it_was_and_counts_its_rounds(
    broker_url: str, publisher: Publisher
) -> None:
    [message_id] = bury_some(publisher, 1)
    [letter] = look(broker_url)
    first_key = letter.routing_key
    for redriven in (1, 2):
        with open_dead_letters(broker_url, MONGO_WRITER) as letters:
            letters.redrive(publisher, everything(letters))
        [message] = take(broker_url, MONGO_WRITER, 1)
        assert (message.message_id, message.body) == (message_id, letter.delivery.body)
        assert (message.type, message.content_type) == ("message.posted", "application/json")
        assert message.headers == {
            "room_id": letter.room_id,
            "published_at": letter.delivery.headers["published_at"],
            "traceparent": TRACE,
            "x-routing-key": first_key,
            "x-redriven": redriven,
        }
        publisher.publish(to_dead_letter(MONGO_WRITER, message, REFUSED, ValueError("again"), 1))
        [again] = look(broker_url)
        assert (again.routing_key, again.redriven) == (first_key, redriven)
    assert first_key.startswith("room.")


def test_what_is_dropped_is_gone_and_nothing_else(broker_url: str, publisher: Publisher) -> None:
    kept = bury_some(publisher, 5)
    bury_some(publisher, 5, INVALID)
    kept += bury_some(publisher, 5)
    with open_dead_letters(broker_url, MONGO_WRITER) as letters:
        letters.drop([x for x in everything(letters) if x.reason == INVALID])
    assert ids(look(broker_url)) == kept
    assert depth(broker_url, MONGO_WRITER) == 0


def test_what_dies_meanwhile_waits_behind_for_the_next_time(
    broker_url: str, publisher: Publisher
) -> None:
    """Else a redrive of what dies at once again would never end."""
    bury_some(publisher, 150)
    with open_dead_letters(broker_url, MONGO_WRITER) as letters:
        batches = letters.read()
        letters.redrive(publisher, next(batches))
        [late] = bury_some(publisher, 1)
        for batch in batches:
            letters.redrive(publisher, batch)
    assert ids(look(broker_url)) == [late]
    assert depth(broker_url, MONGO_WRITER) == 150


def test_more_than_can_be_held_is_told_and_settling_makes_room(
    broker_url: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MOST_HELD", 20)
    monkeypatch.setattr(dead_letters, "BATCH", 10)
    buried = bury_some(publisher, 45)
    with open_dead_letters(broker_url, MONGO_WRITER) as letters:
        assert ids(everything(letters)) == buried[:20]
        assert letters.unseen == 25
    with open_dead_letters(broker_url, MONGO_WRITER) as letters:
        for batch in letters.read():
            letters.drop(batch)
        assert letters.unseen == 0
    assert look(broker_url) == []


def test_one_operator_at_a_time(broker_url: str, publisher: Publisher) -> None:
    buried = bury_some(publisher, 3)
    with open_dead_letters(broker_url, MONGO_WRITER) as letters:
        assert ids(everything(letters)) == buried
        with pytest.raises(QueueBusy, match=r"chat\.mongo_writer\.dead"):
            look(broker_url)
        assert look(broker_url, REDIS_PUBLISHER) == []
    assert ids(look(broker_url)) == buried


def test_who_lost_the_queue_to_another_operator_hears_of_it(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Redis, where the right to the queue expires."""
    monkeypatch.setattr(redis_admin, "LOCK_SECONDS", 1)
    url = redis_server.fresh_database()
    with closing(Publisher(url, EVENT_QUEUES)) as publisher:
        buried = bury_some(publisher, 3)
    with open_dead_letters(url, MONGO_WRITER) as letters, ExitStack() as stack:
        found = everything(letters)

        def another_one() -> DeadLetterQueue | None:
            with suppress(QueueBusy):
                return stack.enter_context(open_dead_letters(url, MONGO_WRITER))
            return None

        assert ids(everything(wait_until(another_one))) == buried
        with pytest.raises(QueueBusy):
            letters.drop(found)
    assert ids(look(url)) == buried


def test_a_queue_that_is_gone_keeps_its_letters(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    with closing(Publisher(url, EVENT_QUEUES)) as publisher:
        buried = bury_some(publisher, 3)
    with closing(connect_admin(url)) as admin:
        admin.channel.queue_delete(MONGO_WRITER.name)
    with closing(Publisher(url)) as publisher, open_dead_letters(url, MONGO_WRITER) as letters:
        found = everything(letters)
        with pytest.raises(PublishRefused, match=r"chat\.mongo_writer"):
            letters.redrive(publisher, found)
    assert ids(look(url)) == buried


def test_a_foreign_reader_is_an_error_and_no_endless_wait(
    broker_url: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(dead_letters, "RETURN_SECONDS", 0.5)
    bury_some(publisher, 3)
    with open_dead_letters(broker_url, MONGO_WRITER) as letters:
        take(broker_url, DEAD, 3)
        with pytest.raises(BrokerUnavailable, match="another program"):
            everything(letters)


def expire(rabbitmq: RabbitMQ, url: str, message: Message) -> None:
    fields = msgspec.structs.asdict(message) | {"expires_in": 0.01}
    with closing(Publisher(url, EVENT_QUEUES)) as publisher:
        publisher.publish(Message(**fields))


def reject(rabbitmq: RabbitMQ, url: str, message: Message) -> None:
    """A consumer that is no one of ours."""
    with closing(Publisher(url, EVENT_QUEUES)) as publisher:
        publisher.publish(message)
    with closing(connect_admin(url)) as admin:
        got = wait_until(lambda: admin.channel.basic_get(MONGO_WRITER.name))
        admin.channel.basic_reject(got.delivery_tag, requeue=False)
        admin.depth(MONGO_WRITER)


def crash(rabbitmq: RabbitMQ, url: str, message: Message) -> None:
    """Consumers that die with the message in hand, more often than the queue allows."""
    vhost = url.rpartition("/")[2]
    limit = ("set_policy", "--vhost", vhost, "limit", "chat.mongo_writer", '{"delivery-limit":1}')
    rabbitmq.ctl(*limit)
    with closing(Publisher(url, EVENT_QUEUES)) as publisher:
        publisher.publish(message)
    for _ in range(2):
        with closing(subscribe(url, MONGO_WRITER, prefetch=1)) as source:
            wait_until(lambda source=source: source.receive(1, 0.2))


@pytest.mark.parametrize(
    ("die", "reason"), [(expire, "expired"), (reject, "rejected"), (crash, "delivery_limit")]
)
def test_what_the_broker_buried_has_its_reason_and_can_be_redriven(
    rabbitmq: RabbitMQ, die: Any, reason: str
) -> None:
    url = rabbitmq.fresh_vhost()
    message = events.to_message(posted())
    die(rabbitmq, url, message)
    wait_until(lambda: depth(url, DEAD) == 1)
    [letter] = look(url)
    assert (letter.id, letter.reason) == (message.message_id, reason)
    assert letter.routing_key == message.routing_key
    assert letter.time is not None
    assert events.time_of(posted().id).isoformat()[:10] in letter.time
    with closing(Publisher(url)) as publisher, open_dead_letters(url, MONGO_WRITER) as letters:
        letters.redrive(publisher, everything(letters))
    [again] = take(url, MONGO_WRITER, 1)
    assert again.headers["x-routing-key"] == message.routing_key
    assert not [name for name in again.headers if "death" in name]
