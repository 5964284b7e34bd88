from __future__ import annotations

from bus import topology


def test_no_event_queue_can_lose_a_message_to_its_limits() -> None:
    """What at-least-once dead-lettering needs (https://www.rabbitmq.com/docs/quorum-queues)."""
    for queue in topology.EVENT_QUEUES:
        assert queue.arguments["x-queue-type"] == "quorum"
        assert queue.arguments["x-overflow"] == "reject-publish"
        assert queue.arguments["x-dead-letter-strategy"] == "at-least-once"
        assert queue.dead_letters
        assert queue.arguments["x-dead-letter-exchange"] == topology.DEAD.name
        routing_key = queue.arguments["x-dead-letter-routing-key"]
        assert queue.dead_letters.bindings == (topology.Binding(topology.DEAD, routing_key),)


def test_only_the_queue_whose_order_matters_has_a_single_active_consumer() -> None:
    single = [q for q in topology.QUEUES if q.arguments.get("x-single-active-consumer")]
    assert single == [topology.REDIS_PUBLISHER]


def test_exchanges_come_with_their_alternates_first() -> None:
    names = [exchange.name for exchange in topology.exchanges_of(topology.EVENT_QUEUES)]
    assert names == ["chat.unroutable", "chat.events"]
