"""Consuming: the loop of every event consumer, and what belongs to it.

``consumer`` takes deliveries to a sink, ``in_flight`` decides which unacknowledged event to try
next, ``dead_letter`` and its publisher keep what the sink rejects, ``backfill`` re-reads what a
deleted queue lost, ``pause`` stops all consumers of a queue.
"""

from bus.consuming.consumer import Consumer, Sink

__all__ = ["Consumer", "Sink"]
