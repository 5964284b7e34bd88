"""Reads a message's properties from RabbitMQ's bytes, whatever values a publisher put there.

pika ends the connection at a header that Python cannot hold, such as a time beyond the year 9999
or deeply nested tables, so the message would come again at every attempt. It also returns names
that are not UTF-8 as bytes. Here such a time is its number, a value nested too deep stays bytes,
and every name is text. How values are encoded: https://www.rabbitmq.com/amqp-0-9-1-errata#section_3
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from struct import Struct
from typing import Any

# How deep tables and arrays may be nested.
DEEPEST = 16

# Returns the value at a place in the bytes, and the place behind it.
Reader = Callable[[bytes, int], tuple[Any, int]]

_FLAGS = Struct(">H")
_LENGTH = Struct(">L")
_TIME = Struct(">Q")
_DECIMAL = Struct(">Bl")
_LATEST = 253_402_300_799  # 9999-12-31T23:59:59Z


def read_text(data: bytes | bytearray, at: int) -> tuple[str, int]:
    """The short string at ``at``, and the place behind it.

    Each byte that is not UTF-8 becomes one question mark: a longer text might not fit where it
    came from, and the message could not be published again.
    """
    end = at + 1 + data[at]
    try:
        return data[at + 1 : end].decode(), end
    except UnicodeDecodeError:
        return data[at + 1 : end].decode("ascii", "replace").replace("\ufffd", "?"), end


def read_properties(data: bytes) -> dict[str, Any]:
    """The properties that are set, by their names in AMQP."""
    [flags] = _FLAGS.unpack_from(data)
    at, found = _FLAGS.size, {}
    for flag, name, read in _PROPERTIES:
        if flags & flag:
            found[name], at = read(data, at)
    return found


def _read_octet(data: bytes, at: int) -> tuple[int, int]:
    return data[at], at + 1


def _read_seconds(data: bytes, at: int) -> tuple[int, int]:
    return _TIME.unpack_from(data, at)[0], at + _TIME.size


def _read_table(data: bytes, at: int, depth: int = 0) -> tuple[dict[str, Any], int]:
    at, end = _contents(data, at)
    table = {}
    while at < end:
        name, at = read_text(data, at)
        table[name], at = _read_value(data, at, depth)
    return table, end


def _read_array(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    at, end = _contents(data, at)
    values = []
    while at < end:
        value, at = _read_value(data, at, depth)
        values.append(value)
    return values, end


def _read_value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    kind, at = data[at : at + 1], at + 1
    if fixed := _NUMBERS.get(kind):
        number = fixed.unpack_from(data, at)[0]
        # Like pika, which cannot send a number with a fraction.
        return bool(number) if kind == b"t" else int(number), at + fixed.size
    if kind in _NESTED and depth < DEEPEST:
        return _NESTED[kind](data, at, depth + 1)
    return _OTHERS[kind](data, at)


def _read_string(data: bytes, at: int) -> tuple[str | bytes, int]:
    """Like pika: text if it is UTF-8."""
    value, end = _read_bytes(data, at)
    try:
        return value.decode(), end
    except UnicodeDecodeError:
        return value, end


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    at, end = _contents(data, at)
    return data[at:end], end


def _read_time(data: bytes, at: int) -> tuple[datetime | int, int]:
    seconds, end = _read_seconds(data, at)
    return (datetime.fromtimestamp(seconds, UTC) if seconds <= _LATEST else seconds), end


def _read_decimal(data: bytes, at: int) -> tuple[Decimal, int]:
    places, number = _DECIMAL.unpack_from(data, at)
    return Decimal(number).scaleb(-places), at + _DECIMAL.size


def _read_nothing(data: bytes, at: int) -> tuple[None, int]:
    return None, at


def _contents(data: bytes, at: int) -> tuple[int, int]:
    """Where the value behind the length at ``at`` begins and ends."""
    start = at + _LENGTH.size
    return start, start + int(_LENGTH.unpack_from(data, at)[0])


_NUMBERS = {
    kind.encode(): Struct(f">{code}")
    for kind, code in zip("tbBUsuIilLfd", "BbBhhHiIqqfd", strict=True)
}
_NESTED: dict[bytes, Callable[[bytes, int, int], tuple[Any, int]]] = {
    b"F": _read_table,
    b"A": _read_array,
}
_OTHERS: dict[bytes, Reader] = {
    b"S": _read_string,
    b"x": _read_bytes,
    b"T": _read_time,
    b"D": _read_decimal,
    b"V": _read_nothing,
    # Nested too deep.
    b"F": _read_bytes,
    b"A": _read_bytes,
}


def _properties() -> Iterator[tuple[int, str, Reader]]:
    """In the order in which they travel; the first one has the highest bit
    (https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, 4.2.6.1)."""
    others: dict[str, Reader] = {
        "headers": _read_table,
        "delivery_mode": _read_octet,
        "priority": _read_octet,
        "timestamp": _read_seconds,
    }
    names = (
        "content_type content_encoding headers delivery_mode priority correlation_id reply_to"
        " expiration message_id timestamp type user_id app_id cluster_id"
    )
    for place, name in enumerate(names.split()):
        yield 1 << (15 - place), name, others.get(name, read_text)


_PROPERTIES = tuple(_properties())
