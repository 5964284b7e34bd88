"""Properties as RabbitMQ sends them: what pika reads the same way, and what it cannot read."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pika import spec
from pika.data import decode_table, encode_table

from bus.transport.rabbitmq.field_table import DEEPEST, read_properties

ORDINARY: dict[str, Any] = {
    "text": "grüße",
    "empty": "",
    "bytes": b"\xff\xfe",
    "true": True,
    "numbers": [0, -1, 2**31 - 1, -(2**63)],
    "decimal": Decimal("-12.345"),
    "time": datetime(2026, 11, 25, 17, 0, 1, tzinfo=UTC),
    "nothing": None,
    "x-death": [{"queue": "q", "count": 2, "routing-keys": ["a", "b"]}, {}],
}


def with_headers(table: bytes) -> bytes:
    """The properties of a message with these headers, as they travel, and a type behind them."""
    return struct.pack(">HL", 1 << 13 | 1 << 5, len(table)) + table + b"\x01t"


def headers(table: bytes) -> Any:
    properties = read_properties(with_headers(table))
    assert properties["type"] == "t", "the end of the headers was found"
    return properties["headers"]


def entry(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + value


def sized(kind: bytes, contents: bytes) -> bytes:
    return kind + struct.pack(">L", len(contents)) + contents


def test_all_properties() -> None:
    given = spec.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        headers={"a": 1},
        delivery_mode=2,
        priority=9,
        correlation_id="c",
        reply_to="r",
        expiration="1000",
        message_id="m",
        timestamp=1_800_000_000,
        type="message.posted",
        user_id="guest",
        app_id="a",
        cluster_id="",
    )
    assert read_properties(b"".join(given.encode())) == vars(given)
    assert read_properties(b"".join(spec.BasicProperties().encode())) == {}


def test_ordinary_headers_are_what_pika_makes_of_them() -> None:
    pieces: list[bytes] = []
    encode_table(pieces, ORDINARY)
    encoded = b"".join(pieces)
    assert headers(encoded[4:]) == ORDINARY == decode_table(encoded, 0)[0]


@pytest.mark.parametrize("kind", "tbBUsuIilLfd")
def test_every_kind_of_number_is_what_pika_makes_of_it(kind: str) -> None:
    size = dict(zip("tbBUsuIilLfd", (1, 1, 1, 2, 2, 2, 4, 4, 8, 8, 4, 8), strict=True))[kind]
    value = b"\x01" if kind == "t" else struct.pack(f">{kind}", -3.75) if kind in "fd" else b"\x81"
    table = entry(b"n", kind.encode() + value.ljust(size, b"\x02"))
    expected = decode_table(struct.pack(">L", len(table)) + table, 0)[0]
    assert headers(table) == expected
    assert isinstance(headers(table)["n"], bool) == (kind == "t")


def test_names_are_text_whatever_they_are() -> None:
    assert headers(entry(b"\xed\xa0\x80", b"V")) == {"???": None}
    nested = sized(b"F", entry(b"\xff", b"V"))
    assert headers(entry(b"k", nested)) == {"k": {"?": None}}
    # However long, it can be published again.
    assert headers(entry(b"\xc3\xa9" * 127 + b"\xff", b"V")) == {"?" * 255: None}


@pytest.mark.parametrize("seconds", [253_402_300_799, 253_402_300_800, 2**60, 2**64 - 1])
def test_a_time_that_is_too_late_is_a_number(seconds: int) -> None:
    [value] = headers(entry(b"k", b"T" + struct.pack(">Q", seconds))).values()
    latest = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert value == (latest if seconds == 253_402_300_799 else seconds)


@pytest.mark.parametrize("kind", [b"F", b"A"])
def test_what_is_nested_too_deep_is_bytes(kind: bytes) -> None:
    value = b"V"
    for _ in range(5_000):
        value = sized(kind, entry(b"k", value) if kind == b"F" else value)
    found = headers(entry(b"k", value) + entry(b"behind", b"t\x01"))
    assert found["behind"] is True
    depth, inner = 0, found["k"]
    while not isinstance(inner, bytes):
        inner = inner["k"] if kind == b"F" else inner[0]
        depth += 1
    assert depth == DEEPEST
